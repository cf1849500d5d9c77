import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remnant.stats import groups as stats


def example(seed=0, *, num=300, models=3, classes=2, levels=3):
    rng = np.random.default_rng(seed)
    label, group = rng.integers(0, classes, num), rng.integers(0, levels, num)
    predictions = np.where(rng.random((models, num)) < 0.7, label, rng.integers(0, classes, (models, num)))
    return label, group, predictions


def rates(label, group, predictions, num_groups, positive):
    found = stats.cells([group, label, *predictions])
    at = found.rows
    groups = stats.indicators([group[at]], [num_groups])
    quantities = stats.rate_quantities(predictions[:, at], label[at], positive)
    return {name: stats.group_means(q, found, groups) for name, q in quantities.items()}


@given(st.integers(0, 2**32), st.integers(2, 4))
@settings(deadline=None, max_examples=25)
def test_rates_equal_a_loop(seed, classes):
    label, group, predictions = example(seed, classes=classes, num=60)
    found = rates(label, group, predictions, 3, 1)
    for model, predicted in enumerate(predictions):
        for level in range(3):
            here = group == level
            negative, positive = here & (label != 1), here & (label == 1)
            expected = {
                "error": (predicted != label)[here],
                "false_positive_rate": (predicted == 1)[negative],
                "false_negative_rate": (predicted != 1)[positive],
            }
            for name, flags in expected.items():
                np.testing.assert_allclose(found[name][model, level], flags.mean() if len(flags) else np.nan)


def test_rates_by_hand():
    """Group 0: labels 1 1 0 0 0, predicted 1 0 1 0 0: error 2/5, false positives 1/3, false negatives 1/2."""
    label, predicted = np.array([1, 1, 0, 0, 0, 1]), np.array([[1, 0, 1, 0, 0, 1]])
    found = rates(label, np.array([0, 0, 0, 0, 0, 1]), predicted, 2, 1)
    assert found["error"].tolist() == [[0.4, 0.0]]
    assert found["false_positive_rate"][0, 0] == pytest.approx(1 / 3)
    assert np.isnan(found["false_positive_rate"][0, 1])
    assert found["false_negative_rate"].tolist() == [[0.5, 0.0]]
    assert list(rates(label, np.zeros(6, int), predicted, 1, None)) == ["error"]


def test_cells_hold_every_example_once_whatever_the_number_of_columns():
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, 50, 500) for _ in range(30)]  # 50^30 combinations: more than 64 bits
    found = stats.cells(columns)
    assert found.num_examples == 500
    table = np.stack(columns, axis=1)
    assert len(found.counts) == len(np.unique(table, axis=0))
    few = stats.cells([np.array([1, 0, 1, 1]), np.array([0, 2, 0, 1])])
    assert sorted(few.counts.tolist()) == [1, 1, 2]


def quantities_of(label, group, before, after):
    found = stats.cells([group, label, *before, *after])
    at = found.rows
    groups = stats.indicators([group[at]], [int(group.max()) + 1])
    sides = [stats.rate_quantities(side[:, at], label[at], None)["error"] for side in (before, after)]
    return sides, found, groups


def test_bootstrap_has_the_spread_of_resampled_examples():
    """Against a bootstrap of the examples themselves."""
    label, group, predictions = example(num=400, models=2)
    sides, found, groups = quantities_of(label, group, predictions[:1], predictions[1:])
    drawn = stats.resampled_means(sides, found, groups, np.random.default_rng(1), num=3000)
    change = drawn[1] - drawn[0]
    rng = np.random.default_rng(2)
    wrong = (predictions[1] != label).astype(float) - (predictions[0] != label)
    rows = rng.integers(0, 400, (3000, 400))
    slow = np.stack([[wrong[r][group[r] == level].mean() for level in range(3)] for r in rows])
    np.testing.assert_allclose(change.std(axis=0), slow.std(axis=0), rtol=0.1)
    np.testing.assert_allclose(change.mean(axis=0), slow.mean(axis=0), atol=4e-3)


def test_bootstrap_over_models_has_the_variance_of_their_mean():
    """Models that differ from each other, but not between examples of a group: only models are random."""
    label, group = np.zeros(50, int), np.zeros(50, int)
    before = np.zeros((4, 50), int)
    after = np.stack([np.r_[np.ones(10 * k, int), np.zeros(50 - 10 * k, int)] for k in range(4)])
    sides, found, groups = quantities_of(label, group, before, after)
    drawn = stats.resampled_means(sides, found, groups, np.random.default_rng(0), num=6000)
    over_models = np.var([0, 0.2, 0.4, 0.6], ddof=1) / 4
    over_examples = np.var(after.mean(axis=0)) / 50
    assert (drawn[1] - drawn[0]).var() == pytest.approx(over_models + over_examples, rel=0.2)


def test_paired_bootstrap_intervals_cover_the_true_change():
    """Two models whose accuracy differs by 0.1 in truth, on 200 fresh examples each time."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(150):
        label, group = np.zeros(200, int), np.zeros(200, int)
        easy = rng.random(200)
        before, after = (easy > 0.8).astype(int)[None], (easy + rng.normal(0, 0.05, 200) > 0.7).astype(int)[None]
        sides, found, groups = quantities_of(label, group, before, after)
        drawn = stats.resampled_means(sides, found, groups, rng, num=300)
        low, high = np.quantile(drawn[1] - drawn[0], [0.025, 0.975])
        covered += low <= 0.1 <= high
    assert covered >= 150 * 0.95 - 2.5 * np.sqrt(150 * 0.05 * 0.95)


def test_a_group_that_is_not_drawn_is_unknown():
    label, group = np.zeros(5, int), np.array([0, 0, 0, 0, 1])
    sides, found, groups = quantities_of(label, group, np.zeros((1, 5), int), np.ones((1, 5), int))
    drawn = stats.resampled_means(sides, found, groups, np.random.default_rng(0), num=200)
    assert np.isnan(drawn[:, :, 1]).any()
    assert not np.isnan(drawn[:, :, 0]).any()


def test_change_moments_equal_a_loop():
    label, group, predictions = example(models=6)
    sides, found, groups = quantities_of(label, group, predictions[:3], predictions[3:])
    sums, squares, example_squares = stats.change_moments(sides[0], sides[1], found, groups)
    change = (predictions[3:] != label).astype(float) - (predictions[:3] != label)
    for level in range(3):
        here = change[:, group == level]
        np.testing.assert_allclose(sums[:, level], here.sum(axis=1))
        assert squares[level] == pytest.approx((here**2).sum())
        assert example_squares[level] == pytest.approx((here.sum(axis=0) ** 2).sum())


def slow_amplification(predicted, label, group, num_groups, num_classes):
    """Wang & Russakovsky (2021), term by term."""
    total = 0.0
    for a in range(num_groups):
        for t in range(num_classes):
            joint = np.mean((group == a) & (label == t))
            together = joint > np.mean(group == a) * np.mean(label == t)
            change = np.mean(predicted[group == a] == t) - np.mean(label[group == a] == t)
            total += change if together else -change
    return total / (num_groups * num_classes)


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=25)
def test_bias_amplification_equals_the_definition(seed):
    label, group, predictions = example(seed, classes=3, num=97)
    found = stats.bias_amplification(predictions, label, group, num_groups=3, num_classes=3)
    expected = [slow_amplification(p, label, group, 3, 3) for p in predictions]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_bias_amplification_by_hand():
    """Class 1 in 3 of 4 of group 0, 1 of 4 of group 1; always predicted in group 0, never in group 1: each of the 4
    shares moves by 1/4 in the direction of the association."""
    label, group = np.array([1, 1, 1, 0, 1, 0, 0, 0]), np.repeat([0, 1], 4)
    exaggerated, right, flat = np.repeat([1, 0], 4), label, np.tile([1, 1, 0, 0], 2)
    found = stats.bias_amplification(np.stack([exaggerated, right, flat]), label, group, num_groups=2, num_classes=2)
    np.testing.assert_allclose(found, [0.25, 0, -0.25])


def test_disagreement_is_the_share_of_pairs():
    predictions = np.array([[0, 1, 2], [0, 1, 1], [0, 2, 0], [0, 1, 2]])
    np.testing.assert_allclose(stats.disagreement_by_example(predictions), [0, 3 / 6, 5 / 6])
    with pytest.raises(ValueError, match="at least 2 models"):
        stats.disagreement_by_example(predictions[:1])
