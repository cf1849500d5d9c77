"""Pairs by the probability of a high influence, in populations with planted ones."""

import numpy as np
import pytest

from remnant.analyses import influence_probable
from remnant.analyses.influence import run
from remnant.stats import influence as plain
from tests.simulate import population

PLANTED = [(f"test-{j:05}", f"train-{j:05}") for j in range(0, 8, 2)]
"""Those of memorized training examples."""


def simulated(seed=0, num_trials=100, influential=8, effect=0.6):
    return population(
        np.random.default_rng(seed), num_seeds=2, num_subset_trials=num_trials, influential=influential, effect=effect
    )


def likely(finding):
    table = finding.tables["probable_pairs"].query("probability >= 0.5")
    return list(zip(table["test_example"], table["train_example"], strict=True))


@pytest.fixture(scope="module")
def finding():
    return run(simulated(), permutations=0)


def test_planted_pairs_are_likely_and_hardly_any_other_is(finding):
    found = likely(finding)
    assert set(PLANTED) <= set(found)
    assert len(found) <= len(PLANTED) + 2


def test_the_table_is_sorted_and_has_the_plain_estimates_of_its_pairs(finding):
    table = finding.tables["probable_pairs"]
    assert (np.diff(table["probability"]) <= 0).all()
    assert table["probability"].min() >= influence_probable.LEAST
    trials = simulated()
    trials = trials.isel(trial=trials["subset"].values >= 0)
    full = plain.influence(trials["logits"].values.argmax(axis=-1) == trials["label"].values, trials["included"].values)
    row, column = (table[name].str[-5:].astype(int) for name in ("test_example", "train_example"))
    np.testing.assert_allclose(table["influence"], full.value[row, column], atol=1e-6)
    np.testing.assert_allclose(table["standard_error"], full.standard_error[row, column], atol=1e-6)


def test_claims_count_the_likely_pairs_and_the_false_ones_expected_among_them(finding):
    table = finding.tables["probable_pairs"].query("probability >= 0.5")
    assert finding.claim("probable_pairs").estimate == len(table)
    assert finding.claim("probable_pairs_false_discovery").estimate == pytest.approx(1 - table["probability"].mean())


def test_galleries_show_likely_pairs_first(finding):
    shown = next(iter(finding.galleries.values()))
    assert len(shown) == min(24, finding.claim("influenced_test_examples").n)
    assert [(exhibit.example, exhibit.beside.example) for exhibit in shown][: len(PLANTED)] == likely(finding)[
        : len(PLANTED)
    ]


def test_without_any_influence_hardly_a_pair_is_likely():
    numbers = [len(likely(run(simulated(seed, influential=0), permutations=0))) for seed in range(6)]
    assert sum(numbers) <= 3  # of 6 x 6,000 pairs of one class


def test_the_most_memorized_training_examples_are_compared_where_there_are_too_many_pairs(monkeypatch):
    whole = likely(run(simulated(), permutations=0))
    monkeypatch.setattr(influence_probable, "MOST_PAIRS", 75 * 40)  # 150 x 40 pairs: only the memorized half fits
    finding = run(simulated(), permutations=0)
    some = likely(finding)
    assert any("75 most memorized of 150" in caveat for caveat in finding.caveats)
    assert set(PLANTED) <= set(some) & set(whole)
    assert {int(train[-5:]) % 2 for _, train in some} == {0}
    monkeypatch.setattr(influence_probable, "MOST_PAIRS", 10)
    none = run(simulated(), permutations=0)
    assert "probable_pairs" not in none.tables


def test_pairs_that_look_alike_share_a_prior(monkeypatch):
    """Weak influence in few trials: found where the pictures of the pairs are the same, and those of others are not."""
    few = simulated(3, num_trials=40, influential=20, effect=0.35)
    few.attrs |= {"store": "here", "fingerprint": "0"}
    rng = np.random.default_rng(0)
    pictures = {"test": rng.integers(0, 256, (200, 4, 4, 1), np.uint8)}
    pictures["train"] = np.concatenate([pictures["test"][:20], rng.integers(0, 256, (130, 4, 4, 1), np.uint8)])
    monkeypatch.setattr(
        influence_probable,
        "thumbnails",
        lambda store, trials: lambda split, ids: {name: pictures[split][int(name[-5:])] for name in ids},
    )
    planted = {(f"test-{j:05}", f"train-{j:05}") for j in range(0, 20, 2)}
    alike = run(few, permutations=0)
    few.attrs.pop("store")
    apart = run(few, permutations=0)
    mass = [
        sum(p for t, i, p in pairs if (t, i) in planted)
        for pairs in (
            found.tables["probable_pairs"][["test_example", "train_example", "probability"]].to_numpy().tolist()
            for found in (alike, apart)
        )
    ]
    assert mass[0] > 1.2 * mass[1]


def test_a_class_without_training_examples_has_no_pairs(monkeypatch):
    found = simulated()
    found["train_label"] = found["train_label"].where(found["train_label"] != 3, 2)
    found.attrs |= {"store": "here", "fingerprint": "0"}
    flat = np.zeros((2, 2, 1), np.uint8)
    monkeypatch.setattr(
        influence_probable, "thumbnails", lambda store, trials: lambda split, ids: dict.fromkeys(ids, flat)
    )
    table = run(found, permutations=0).tables["probable_pairs"]
    assert len(table)
    assert "class 3" not in set(table["class"])


@pytest.mark.parametrize("change", [lambda p: p.drop_vars("train_margin"), lambda p: p.isel(trial=slice(0, 11))])
def test_what_cannot_be_ranked_is_not_counted(change):
    finding = run(change(simulated()), permutations=0)
    assert "probable_pairs" not in finding.tables
    assert "probable_pairs" not in [claim.quantity for claim in finding.claims]
    assert any("not ranked by probability" in caveat for caveat in finding.caveats)


def test_claims_do_not_depend_on_the_length_of_tables(finding):
    short = run(simulated(), permutations=0, rows=2)
    assert len(short.tables["probable_pairs"]) == 2
    for name in ("probable_pairs", "probable_pairs_false_discovery"):
        assert short.claim(name).estimate == finding.claim(name).estimate
