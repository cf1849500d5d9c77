import numpy as np
import pytest
from scipy.special import ndtr

from remnant.stats.influence import memorization
from remnant.stats.memorization_estimators import combined_memorization


def population(trials: int, seed: int, *, num: int = 400, shape: str = "normal"):
    """Margins with known probabilities without the example, and always right with it."""
    rng = np.random.default_rng(seed)
    included = rng.random((trials, num)) < 0.7
    mean = np.random.default_rng(0).normal(2, 2, num)
    noise = rng.normal(size=(trials, num)) if shape == "normal" else rng.exponential(size=(trials, num)) - 1
    margin = np.where(included, 5.0, mean + noise)
    without = ndtr(mean) if shape == "normal" else np.minimum(1, np.exp(np.minimum(mean - 1, 0)))
    if shape != "normal":
        without = np.where(mean > 1, 1, np.exp(-(1 - mean)))
    return margin > 0, margin, included, 1 - without


def error(value, truth):
    return np.sqrt(np.nanmean((value - truth) ** 2))


def test_where_margins_are_normal_a_fifth_of_the_trials_is_saved():
    plain, combined = [], []
    for seed in range(1, 9):
        correct, margin, included, truth = population(60, seed)
        plain.append(error(memorization(correct, included).value, truth) ** 2)
        combined.append(error(combined_memorization(correct, margin, included).value, truth) ** 2)
    assert np.mean(combined) < 0.8 * np.mean(plain)


def test_where_margins_mislead_it_is_as_good_as_the_plain_estimate_and_goes_to_it():
    """Exponential margins: the normal probability is wrong, and its weight falls as trials are added."""
    weights = []
    for trials in (60, 300, 1500):
        correct, margin, included, truth = population(trials, 1, shape="exponential")
        combined = combined_memorization(correct, margin, included)
        assert error(combined.value, truth) < 1.05 * error(memorization(correct, included).value, truth)
        weights.append(combined.weight)
    assert weights[0] > weights[1] > weights[2]
    assert weights[2] < 0.35


def test_examples_that_are_right_without_being_trained_on_keep_the_plain_value():
    correct, margin, included, _ = population(60, 3)
    plain = memorization(correct, included).value
    always = (correct | included).all(axis=0)
    assert always.any()
    assert np.array_equal(combined_memorization(correct, margin, included).value[always], plain[always])


def test_value_by_hand():
    """Without the example: margins 1, -1, 3 (two of three right), with it always right; other columns do not matter."""
    included = np.array([[1, 0], [0, 1], [0, 1], [0, 0], [1, 1]], bool)
    margin = np.array([[2.0, 1], [1, 1], [-1, 1], [3, 1], [2, 1]])
    found = combined_memorization(margin > 0, margin, included)
    # Variance with 4 trials of the median variance: (8 + 4 * median(4, 0)) / (2 + 4) = 16 / 6; mean 1.
    by_margin = ndtr(1 / np.sqrt(16 / 6))
    assert found.value[0] == pytest.approx(1 - ((1 - found.weight) * 2 / 3 + found.weight * by_margin), abs=1e-12)
    assert found.value[1] == 0


def test_examples_in_all_or_no_trials_have_none():
    correct, margin, included, _ = population(30, 4)
    included[:, 0], included[:, 1] = True, False
    found = combined_memorization(correct, margin, included).value
    assert np.isnan(found[:2]).all()
    assert np.isfinite(found[2:]).all()


def test_order_of_trials_and_of_examples_does_not_matter():
    correct, margin, included, _ = population(50, 5)
    value = combined_memorization(correct, margin, included).value
    rows, columns = np.random.default_rng(0).permutation(50), np.random.default_rng(0).permutation(400)
    correct, margin, included = (array[rows][:, columns] for array in (correct, margin, included))
    again = combined_memorization(correct, margin, included).value  # pyright: ignore[reportArgumentType]
    assert np.allclose(again, value[columns], atol=1e-12)


def test_mistakes_are_named():
    correct, margin, included, _ = population(10, 6)
    with pytest.raises(ValueError, match="of one shape"):
        combined_memorization(correct[:, :5], margin, included)
    with pytest.raises(ValueError, match="finite outcomes"):
        combined_memorization(correct, np.where(margin > 4, np.nan, margin), included)
