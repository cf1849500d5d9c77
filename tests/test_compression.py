"""Compressing a trained model: from its file to an artefact with an audit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from remnant import compression, execute, manifest
from remnant.cli import main
from remnant.lab.data import load
from remnant.lab.train import normalize, train
from remnant.schemes import Align, Compose, Distillation, OneShotPruning, StaticInt8
from remnant.store import Store
from remnant.trial import Recipe, Trial

SCHEME = "one-shot-pruning(sparsity=0.8, epochs=1)"


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


class Recurrent(nn.Module):
    """A network with an LSTM; `fixed`: its `forward` works for one size of batches alone."""

    def __init__(self, *, fixed: bool) -> None:
        super().__init__()
        self.lstm, self.out, self.fixed = nn.LSTM(8, 4, batch_first=True), nn.Linear(4, 10), fixed

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        number = len(images) if self.fixed else images.shape[0]
        return self.out(self.lstm(images.reshape(number, 8, 8))[0][:, -1])


def recurrent() -> nn.Module:
    torch.manual_seed(0)
    return Recurrent(fixed=False)


def recurrent_of_one_size() -> nn.Module:
    torch.manual_seed(0)
    return Recurrent(fixed=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The reference of a trained model: a function of this module and its weights."""
    torch.manual_seed(0)
    made, digits = network(), load("digits")
    trial = Trial(Recipe("digits", "mlp", epochs=10))
    train(made, trial.recipe, digits, np.arange(len(digits.train.labels)), trial.rng)
    path = tmp_path_factory.mktemp("model") / "weights.pt"
    torch.save(made.state_dict(), path)
    return f"{__name__}:network@{path}"


@pytest.fixture(scope="module")
def done(model, tmp_path_factory):
    """A finished compression and its files."""
    folder = tmp_path_factory.mktemp("compressed")
    found = compression.compress(model, SCHEME, data="digits", store=str(folder / "store"), align="distillation+logits")
    return found, compression.write(found, folder / "out", formats=("safetensors", "pt2")), folder


def test_the_compressed_model_has_the_declared_sparsity_and_nearly_the_accuracy(done):
    found, _, _ = done
    assert found.trial.scheme == OneShotPruning(0.8, align=Align(("distillation", "logits")))
    cost = found.footprint
    weights = 64 * 32 + 32 * 10
    assert cost["dense"]["nonzeros"] - cost["compressed"]["nonzeros"] == round(0.8 * weights)
    summary = compression.summary(found)
    assert summary["dense_accuracy"] > 0.9
    assert summary["accuracy"] > summary["dense_accuracy"] - 0.1
    assert summary["cie_u"] <= summary["cie"]


def test_the_dense_model_is_the_users_with_its_own_weights(done, model):
    found, _, _ = done
    stored = found.store.read(found.trial.parent, "weights")
    given = torch.load(model.partition("@")[2])
    assert all(np.array_equal(stored[name], value.numpy()) for name, value in given.items())


def test_the_archive_takes_pixels_and_answers_as_the_stored_model(done):
    found, written, _ = done
    digits = load("digits")
    images = digits.test.images
    assert isinstance(images, torch.Tensor)
    program = torch.export.load(written["model.pt2"]).module()
    with torch.no_grad():
        from_pixels = program(images.float())
        expected = found.model()(normalize(digits, images))
    assert (from_pixels.argmax(1) == expected.argmax(1)).float().mean() > 0.999


def test_the_manifest_names_the_parent_the_scheme_and_every_file_and_can_be_verified(done):
    found, written, folder = done
    data = json.loads(written["manifest.json"].read_text())
    about = data["about"]["compression"]
    assert about["dense_weights"] == found.trial.recipe.weights
    assert about["parents"] == [found.trial.parent.key]
    assert about["label"] == found.trial.scheme.label
    assert about["summary"] == compression.summary(found)
    assert {"model.safetensors", "model.pt2", "report.html"} <= set(data["files"])
    assert manifest.verify(folder / "out").exit_code == 0
    (folder / "out" / "model.safetensors").write_bytes(b"another model")
    assert [item.name for item in manifest.verify(folder / "out").wrong] == ["model.safetensors"]


def test_a_second_call_computes_nothing_and_gives_the_same_bits(done, model):
    found, _, folder = done
    calls = []
    again = compression.compress(
        model, SCHEME, data="digits", store=str(folder / "store"), align="distillation+logits", progress=calls.append
    )
    assert calls == []
    assert again.trial == found.trial


def test_a_budget_finds_the_strongest_setting_that_keeps_it(model, tmp_path, capsys):
    arguments = [
        "compress",
        model,
        "--data",
        "digits",
        "--scheme",
        "one-shot-pruning(epochs=0)",
        "--budget",
        "cie_u<=3%",
    ]
    main(
        [
            *arguments,
            "--samples",
            "4",
            "--out",
            str(tmp_path / "out"),
            "--formats",
            "safetensors",
            "--json",
        ]
    )
    found = json.loads(capsys.readouterr().out)
    assert found["search"]["reachable"]
    assert (tmp_path / "out" / "search.csv").is_file()
    assert found["summary"]["cie_u"] / found["summary"]["examples"] < 0.06


def test_a_budget_out_of_reach_says_the_best_that_was_found_and_exits_with_1(model, tmp_path, capsys):
    arguments = ["compress", model, "--data", "digits", "--scheme", "one-shot-pruning(epochs=0)", "--budget"]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "accuracy_drop<=-50%", "--samples", "2", "--out", str(tmp_path / "out")])
    assert stopped.value.code == 1
    assert "No strength keeps the budget" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_model_in_a_store_is_compressed_there(done):
    found, _, folder = done
    other = compression.compress(str(folder / "store"), "static-int8")
    assert other.trial.recipe == found.trial.recipe
    assert other.store.root == found.store.root


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scheme": "static-int8", "align": "logits"}, "a scheme that trains for `align`"),
        ({"scheme": "static-int8", "budget": "cie_u<=1%"}, "a scheme with a strength"),
        ({"scheme": SCHEME, "budget": "cie_z<=1%"}, "cie_u"),
        ({"scheme": SCHEME, "data": ""}, "Expected `data`"),
        ({"scheme": SCHEME, "data": "fashion-mnist-x"}, "fashion-mnist"),
        ({"scheme": "magnitude-pruning(sparsity=0.5)"}, "starts from trained weights, but"),
        ({"scheme": "one-shot-pruning"}, r"expected the keys \['sparsity'\]"),
        ({"scheme": SCHEME, "recipe": {"preprocessing": "size=32"}}, "keeps the size of pictures"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(model, tmp_path, arguments, message):
    given = {"data": "digits", "store": str(tmp_path / "store"), **arguments}
    with pytest.raises(ValueError, match=message):
        compression.compress(model, given.pop("scheme"), **given)
    assert not list((tmp_path / "store").glob("trials/*"))


def test_weights_that_changed_since_are_refused(model, tmp_path):
    store = str(tmp_path / "store")
    reference, _, weights = model.partition("@")
    copy = tmp_path / "weights.pt"
    copy.write_bytes(Path(weights).read_bytes())
    found = compression.compress(f"{reference}@{copy}", "float16", data="digits", store=store)
    torch.save({name: value + 1 for name, value in torch.load(weights).items()}, copy)
    again = compression.compress(f"{reference}@{copy}", "float16", data="digits", store=store)
    assert again.trial.key != found.trial.key


def test_the_strength_of_a_composition_is_that_of_its_first_part_that_has_one():
    assert compression.strength_field(OneShotPruning(0.5)) == "sparsity"
    assert compression.strength_field(Compose((StaticInt8(), OneShotPruning(0.5)))) == "parts.1.sparsity"


def test_layers_are_given_back_until_the_limit_holds(model, tmp_path, capsys):
    arguments = ["compress", model, "--data", "digits", "--scheme", "one-shot-pruning(sparsity=0.9, epochs=0)"]
    arguments += ["--formats", "safetensors", "--out", str(tmp_path / "out"), "--json"]
    main([*arguments, "--restore-until", "cie_u<=10%"])
    found = json.loads(capsys.readouterr().out)
    restored = found["restoration"]
    assert len(restored["layers"]) == 1
    assert restored["before"] > 0.1 >= restored["selected"]
    assert restored["reached"]
    assert found["scheme"]["parts"][-1] == {"kind": "restored", "layers": restored["layers"]}
    low, high = restored["held_out_interval"]
    assert low <= restored["held_out"] <= high
    share = (restored["selected"] + restored["held_out"]) / 2
    assert found["summary"]["cie_u"] / found["summary"]["examples"] == pytest.approx(share, abs=0.002)


def test_a_model_that_is_dense_again_is_no_success(model, tmp_path, capsys):
    arguments = ["--data", "digits", "--formats", "safetensors", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="1"):
        main(["compress", model, "--scheme", "weight-only(bits=2)", "--restore-until", "cie_u<=0%", *arguments])
    assert "nothing is compressed" in " ".join(capsys.readouterr().out.split())


def test_files_of_an_earlier_model_do_not_stay(done, tmp_path):
    found, _, _ = done
    for name in ("model.onnx", "search.csv", "notes.txt"):
        (tmp_path / name).write_text("old")
    compression.write(found, tmp_path, formats=("safetensors",))
    assert not (tmp_path / "model.onnx").exists()
    assert not (tmp_path / "search.csv").exists()
    assert (tmp_path / "notes.txt").read_text() == "old"


def test_a_store_of_several_recipes_does_not_choose_by_itself(tmp_path):
    trials = [Trial(Recipe("digits", name, epochs=1)) for name in ("mlp-16", "mlp-8")]
    execute.run(trials, Store(tmp_path), engine="serial")
    with pytest.raises(ValueError, match=r"one recipe, but .* has 2: mlp-\d+ on digits, mlp-\d+ on digits\. Keep each"):
        compression.compress(str(tmp_path), "float16")


def test_another_architecture_is_taught(model, tmp_path):
    found = compression.compress(
        model, "distillation(architecture=mlp-8, epochs=1)", data="digits", store=tmp_path / "store"
    )
    assert found.trial.scheme == Distillation("mlp-8", epochs=1.0)
    assert found.footprint["compressed"]["nonzeros"] < found.footprint["dense"]["nonzeros"]


def test_a_limit_that_holds_restores_nothing_and_keeps_the_scheme(model, tmp_path):
    store = str(tmp_path / "store")
    found = compression.compress(model, "float16", data="digits", store=store, restore_until="cie<=5%")
    assert found.trial.scheme.label == "float16"
    assert found.restoration is not None
    assert found.restoration.layers == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [("cie_z<=1%", "such as 'cie_u<=0.5%'"), ("cie_u>=1%", "such as"), ("cie_u<=120%", "restore_until")],
)
def test_limits_of_a_restoration_that_mean_nothing_are_refused(model, tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        compression.compress(model, SCHEME, data="digits", store=str(tmp_path / "store"), restore_until=text)


def test_a_restoration_and_a_budget_exclude_each_other(model, tmp_path):
    store, limit = str(tmp_path / "store"), "cie_u<=1%"
    with pytest.raises(ValueError, match="got both"):
        compression.compress(model, SCHEME, data="digits", store=store, budget=limit, restore_until=limit)


def test_layers_that_no_scheme_knows_are_listed_or_refused(tmp_path):
    named = ("lstm: LSTM is neither a linear nor a convolution layer",)
    arguments = {"data": "digits", "store": tmp_path / "store"}
    found = compression.compress(f"{__name__}:recurrent", "weight-only(bits=4)", **arguments)
    assert found.skipped == named
    with pytest.raises(ValueError, match="compresses every layer, but it leaves out: lstm: LSTM"):
        compression.compress(f"{__name__}:recurrent", "dynamic-int8", refuse_skipped=True, **arguments)
    assert compression.compress(f"{__name__}:recurrent", "float16", refuse_skipped=True, **arguments).skipped == ()


def test_a_format_that_cannot_be_written_costs_no_other(tmp_path):
    found = compression.compress(
        f"{__name__}:recurrent_of_one_size", "dynamic-int8", data="digits", store=tmp_path / "store"
    )
    with pytest.raises(
        ValueError, match=r"model\.pt2: torch cannot export Recurrent: .*len\(x\).* Everything else is in"
    ):
        compression.write(found, tmp_path / "out", formats=("pt2", "safetensors"))
    assert {"model.safetensors", "report.html", "manifest.json"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert not (tmp_path / "out" / "model.pt2").exists()
    with pytest.raises(SystemExit, match="0"):
        main(["verify", str(tmp_path / "out")])
