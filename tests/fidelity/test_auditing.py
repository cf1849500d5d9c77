import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from remnant import fidelity
from remnant.lab.foreign.model import state_hash
from remnant.population import predictions
from remnant.stats.equivalence import tango_interval

CODECS = ["png", "jpeg(quality=5)", "jpeg(quality=60)"]


@pytest.fixture(scope="module")
def found(store):
    return fidelity.audit(store=store, codecs=CODECS, reestimate=300)


def rows(found, scheme):
    table = found.audit.finding("decoding").tables["accuracy"]
    return table[table["scheme"] == scheme].set_index("model")


def test_every_model_of_the_store_is_a_trial_of_every_side(found):
    assert found.population.attrs["reference"] == "raw"
    assert found.population["scheme"].values.tolist() == [side for side in ("raw", *CODECS) for _ in range(3)]
    names = [model["name"] for model in found.population.attrs["models"]]
    assert names == ["cnn-8, seed 0", "mlp-32, seed 0", "mlp-32, seed 1"]


def test_raw_answers_are_those_that_the_store_holds(found, store):
    from remnant.store import Store

    shelf = Store(store)
    dense = [trial for trial in shelf.trials() if trial.scheme.label == "dense"]
    stored = sorted(shelf.manifest(trial)["accuracy"]["test"] for trial in dense)
    assert sorted(rows(found, "raw")["accuracy"]) == pytest.approx(stored)


def test_a_lossless_codec_changes_nothing(found):
    answers = predictions(found.population)
    sides = found.population["scheme"].values
    np.testing.assert_array_equal(answers[sides == "png"], answers[sides == "raw"])
    assert (rows(found, "png")["change_points"] == 0).all()
    assert found.claim("cie_rate", "png").estimate == 0
    assert np.isinf(rows(found, "png")["psnr"]).all()


def test_coarser_images_are_smaller_and_harm_more(found):
    coarse, fine = (found.claim("bits_per_value", label).estimate for label in CODECS[1:])
    assert coarse < fine < 8
    assert (rows(found, CODECS[1])["accuracy"] < rows(found, CODECS[2])["accuracy"]).all()
    assert found.claim("cie_u_rate", CODECS[1]).estimate > found.claim("cie_u_rate", CODECS[2]).estimate


def test_statistics_are_estimated_again_for_models_with_batch_norm_alone(found):
    again = rows(found, CODECS[1])["reestimated_accuracy"]
    assert np.isfinite(again["cnn-8, seed 0"])
    assert again.drop("cnn-8, seed 0").isna().all()
    claim = found.claim("reestimated_accuracy_change", CODECS[1])
    raw, now = (rows(found, side).loc["cnn-8, seed 0", "reestimated_accuracy"] for side in ("raw", CODECS[1]))
    assert claim.estimate == pytest.approx(now - raw)


def test_the_change_has_the_score_interval_of_its_examples(found):
    answers, label = predictions(found.population), found.population["label"].values
    sides, seeds = found.population["scheme"].values, found.population["seed"].values
    raw, now = (answers[(sides == side) & (seeds == 1)][0] == label for side in ("raw", CODECS[1]))
    low, high = tango_interval((raw & ~now).sum(), (now & ~raw).sum(), len(label))
    row = rows(found, CODECS[1]).loc["mlp-32, seed 0"]
    assert [row["change_low"], row["change_high"]] == pytest.approx([100 * low, 100 * high])


def test_sizes_are_named_and_relative_to_bytes_and_floats(found):
    sizes = found.audit.finding("decoding").tables["sizes"]
    assert set(sizes["accounting"]) == {"with headers", "headers shared", "entropy-coded"}
    np.testing.assert_allclose(sizes["share_of_uint8"], 4 * sizes["share_of_float32"])
    number = found.population.sizes["example"]
    np.testing.assert_allclose(sizes["share_of_uint8"], sizes["bytes"] / (64 * number))


def test_the_report_shows_raw_beside_decoded(found, tmp_path):
    finding = found.audit.finding("decoding")
    exhibit = finding.galleries[f"Lost, raw beside decoded: {CODECS[1]}"][0]
    assert exhibit.beside.split == CODECS[1]
    raw = found.pictures("test", [exhibit.example])[exhibit.example]
    decoded = found.pictures(CODECS[1], [exhibit.example])[exhibit.example]
    assert raw.shape == decoded.shape
    assert (raw != decoded).any()
    written = found.write(tmp_path)
    page = written["report.html"].read_text()
    assert page.count("data:image/png") > 4
    assert "accuracy (%)" in page
    assert json.loads(written["report.json"].read_text())["about"]["reference"] == "raw"


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), self.norm, nn.Flatten(), nn.Linear(4 * 36, 10))

    def forward(self, images):
        return self.body(images)


def test_a_model_of_the_user_stays_as_it_is():
    torch.manual_seed(0)
    model = Normed().train()
    model.norm.momentum = 0.3
    before = state_hash(model)
    found = fidelity.audit(
        [model], codecs=["jpeg(quality=5)"], data="digits", preprocessing="dataset", limit=50, reestimate=100
    )
    assert state_hash(model) == before
    assert model.training
    assert model.norm.training
    assert model.norm.momentum == 0.3
    assert found.population.sizes["example"] == 50
    assert np.isfinite(rows(found, "raw")["reestimated_accuracy"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codecs": ["jpg(quality=5)"]}, "Did you mean 'jpeg'"),
        ({"codecs": ["jpeg(quality=0)"]}, "a whole number in 1..100"),
        ({"codecs": []}, "at least one codec"),
        ({"codecs": ["webp"]}, "webp cannot store 'digits'"),
        ({"codecs": ["png"], "limit": 0}, "`limit` to be a whole number >= 2"),
        ({"codecs": ["png"], "reestimate": -1}, "`train_images` to be a whole number >= 0"),
        ({"codecs": ["png"], "data": "cifar10"}, "models of one data set"),
        ({"codecs": ["png"], "preprocessing": "none"}, "no `preprocessing` with a store"),
    ],
)
def test_mistakes_are_named(store, options, message):
    with pytest.raises(ValueError, match=message):
        fidelity.audit(store=store, **options)


def test_models_need_data_and_a_store_needs_dense_ones(tmp_path):
    with pytest.raises(ValueError, match="but got neither"):
        fidelity.audit(codecs=["png"])
    with pytest.raises(ValueError, match="Expected `data`"):
        fidelity.audit(["model.onnx"], codecs=["png"])
    with pytest.raises(ValueError, match="it has none"):
        fidelity.audit(store=str(tmp_path / "empty"), codecs=["png"])


def test_data_without_pictures_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {f"{part}_labels": np.arange(20) % 2 for part in ("train", "test")}
    arrays |= {f"{part}_images": rng.normal(size=(20, 1, 8, 8)).astype(np.float32) for part in ("train", "test")}
    np.savez(tmp_path / "floats.npz", **arrays)
    with pytest.raises(ValueError, match="Expected pictures of bytes"):
        fidelity.audit(
            [nn.Flatten()], codecs=["png"], data="arrays:floats.npz", root=str(tmp_path), preprocessing="none"
        )
