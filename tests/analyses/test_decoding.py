from typing import Any

import numpy as np
import pytest

from remnant.analyses import decoding
from remnant.finding import NotApplicable
from remnant.stats.rates import wilson
from tests import simulate

LABEL = "jpeg(quality=5)"


def population(num_seeds=1, *, reestimated=False):
    found = simulate.population(np.random.default_rng(0), schemes={"raw": 0.0, LABEL: 1.0}, num_seeds=num_seeds)
    sizes = {"with headers": 4000, "headers shared": 1000, "entropy-coded": 900}
    coding = {"scheme": LABEL, "codec": "jpeg", "images": 10, "values": 2000, "bytes": sizes, "psnr": np.inf}
    found.attrs |= {"reference": "raw", "codings": [{**coding, "ssim": 0.5}]}
    found.attrs["models"] = [{"name": f"net {seed}", "architecture": "package:net"} for seed in range(num_seeds)]
    if reestimated:
        answers = np.tile(found["label"].values, (found.sizes["trial"], 1))
        answers[found["seed"].values == 1] = -1
        answers[found["scheme"].values == LABEL, :20] = (answers[found["scheme"].values == LABEL, :20] + 1) % 5
        answers[found["seed"].values == 1] = -1
        found["reestimated"] = (("trial", "example"), answers)
    return found


def test_accuracy_stands_beside_bits():
    found = population()
    table = decoding.run(found).to_frame()
    assert table["bits_per_value"].tolist() == [8.0, 4.0]
    right = (found["logits"].values.argmax(2) == found["label"].values).mean(1)
    np.testing.assert_allclose(table["accuracy"], right)
    low, high = wilson(round(right[1] * 200), 200)
    np.testing.assert_allclose(table[["accuracy_low", "accuracy_high"]].iloc[1], [low, high])
    assert table["change_points"].iloc[1] == pytest.approx(100 * (right[1] - right[0]))
    assert np.isnan(table["change_points"].iloc[0])


def test_the_claim_is_the_mean_over_models():
    finding = decoding.run(population(4))
    table = finding.to_frame()
    claim = finding.claim("decoded_accuracy_change", LABEL)
    assert claim.estimate == pytest.approx(table["change_points"].mean() / 100)
    assert -1 < (claim.low or 0) < claim.estimate < (claim.high or 0)
    assert "Student" in claim.method
    assert "Tango" not in claim.method
    assert decoding.run(population(1)).claim("decoded_accuracy_change", LABEL).citation == "tango1998equivalence"


def test_the_interval_over_examples_holds_its_level():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(400):
        lost, gained = rng.random((3, 200)) < 0.1, rng.random((3, 200)) < 0.02
        _, low, high = decoding.change_interval(lost & ~gained, gained & ~lost)
        covered += low <= 0.02 * 0.9 - 0.1 * 0.98 <= high
    assert 365 <= covered <= 395


def test_models_without_batch_norm_do_not_count_where_statistics_are_estimated_again():
    finding = decoding.run(population(3, reestimated=True))
    claim = finding.claim("reestimated_accuracy_change", LABEL)
    assert claim.estimate == pytest.approx(-20 / 200)
    table: Any = finding.to_frame()
    assert table["reestimated_accuracy"].isna().sum() == 2
    assert table.loc[table["model"] == "net 1", "reestimated_accuracy"].isna().all()


def test_an_infinite_psnr_is_in_the_table_but_not_a_claim():
    finding = decoding.run(population())
    assert "psnr" not in {claim.quantity for claim in finding.claims}
    assert np.isinf(finding.to_frame()["psnr"].iloc[1])


def test_lost_examples_are_shown_raw_beside_decoded():
    found = population(4)
    (exhibits,) = decoding.run(found, gallery=5).galleries.values()
    assert len(exhibits) == 5
    values = np.array([exhibit.value for exhibit in exhibits], float)
    assert (np.diff(values) <= 0).all()
    right = found["logits"].values.argmax(2) == found["label"].values
    raw, now = (right[found["scheme"].values == side] for side in ("raw", LABEL))
    lost = (raw & ~now).mean(0)
    row = found["example"].values.tolist().index(exhibits[0].example)
    assert exhibits[0].value == lost[row] == lost.max()
    assert exhibits[0].beside is not None
    assert exhibits[0].beside.split == LABEL


def test_sides_that_are_no_codecs_are_not_asked():
    found = population()
    with pytest.raises(NotApplicable, match="no codec settings"):
        decoding.run(found.assign_attrs(codings=[]))
    other = {**found.attrs["codings"][0], "scheme": "png"}
    with pytest.raises(NotApplicable, match="None of the sides"):
        decoding.run(found.assign_attrs(codings=[other]))
