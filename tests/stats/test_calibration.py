from typing import Any

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from remnant.stats.calibration import (
    Bins,
    binned,
    calibrated_errors,
    change_of_error,
    class_gaps,
    classwise_calibration_error,
    debiased_calibration_error,
    decomposition,
    equal_mass,
    equal_width,
    expected_calibration_error,
    place,
    scores,
    squared_calibration_error,
)


def calibrated(seed: int, num: int = 1000, classes: int = 5, scale: float = 1.0):
    """Logits whose probabilities are true, and labels drawn from them; `scale` makes the model over-confident."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (num, classes))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return scale * logits, labels


def answers(seed: int, num: int = 1000, scale: float = 1.0):
    found = scores(*(pair := calibrated(seed, num, scale=scale)))
    return found.confidence, found.answer == pair[1]


def test_error_by_hand():
    """Two bins: (0.3, right), (0.4, wrong) and (0.9, right), (0.7, wrong): |1 - 0.7| / 4 + |1 - 1.6| / 4."""
    bins = binned(np.array([0.3, 0.4, 0.9, 0.7]), np.array([True, False, True, False]), equal_width(2))
    assert bins.number.tolist() == [2, 2]
    assert expected_calibration_error(bins) == pytest.approx(0.3 / 4 + 0.6 / 4)


def test_squared_error_by_hand():
    """Two examples of confidence 0.3, one right: 0.2^2 - 0.25 / 1. A bin of one example is left out."""
    bins = binned(np.array([0.3, 0.3]), np.array([True, False]), equal_width(2))
    assert squared_calibration_error(bins) == pytest.approx(0.04 - 0.25)
    more = binned(np.array([0.3, 0.3, 0.8]), np.array([True, False, False]), equal_width(2))
    assert squared_calibration_error(more) == pytest.approx(2 / 3 * (0.04 - 0.25))


def test_error_equals_that_of_the_curve_of_scikit_learn():
    confidence, correct = answers(0, scale=2)
    accuracy, mean = calibration_curve(correct, confidence, n_bins=10)
    bins = binned(confidence, correct, equal_width(10))
    number = bins.number[bins.number > 0]
    assert expected_calibration_error(bins) == pytest.approx((number * np.abs(accuracy - mean)).sum() / 1000)


def test_bins_hold_their_upper_edge():
    assert place(np.array([0.0, 0.25, 0.2500001, 1.0]), equal_width(4)).tolist() == [0, 0, 1, 3]


def test_bins_of_equal_mass_have_as_many_examples():
    confidence, correct = answers(1, 1003)
    edges = equal_mass(confidence, 7)
    number = binned(confidence, correct, edges).number
    assert len(number) == 7
    assert np.ptp(number) <= 1
    assert equal_mass(np.ones(9), 5).tolist() == [0, 1]
    tied = equal_mass(np.repeat([0.5, 0.9], [90, 10]), 5)
    assert binned(np.repeat([0.5, 0.9], [90, 10]), np.ones(100, bool), tied).number.tolist() == [90, 10]


def test_scores_equal_those_of_scikit_learn():
    logits, labels = calibrated(2)
    found = scores(logits, labels)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.confidence, p.max(axis=1))
    np.testing.assert_allclose(found.true, p[np.arange(1000), labels])
    assert found.loss.mean() == pytest.approx(log_loss(labels, p))
    options: Any = {"scale_by_half": False}
    assert found.brier.mean() == pytest.approx(brier_score_loss(labels, p, **options))


def test_half_precision_and_sure_answers_are_safe():
    found = scores(np.array([[60000, -60000], [0, 0]], np.float16), np.array([1, 0]))
    np.testing.assert_allclose(found.loss, [120000, np.log(2)], rtol=1e-3)
    np.testing.assert_allclose(found.brier, [2, 0.5])


def test_parts_of_the_brier_score_add_up():
    """Murphy (1973) with the terms of Stephenson et al. (2008): the identity is exact for any bins."""
    for seed, edges in ((0, equal_width(15)), (1, equal_width(1)), (2, np.array([0, 0.5, 0.51, 1]))):
        confidence, correct = answers(seed, 300, scale=2)
        parts = decomposition(binned(confidence, correct, edges))
        assert parts.score == pytest.approx(np.mean((confidence - correct) ** 2))
        assert min(parts.reliability, parts.resolution, parts.uncertainty) >= 0
    # Forecasts that take one value a bin: nothing varies within (Murphy's own case), worked by hand.
    confidence, correct = np.array([0.8, 0.8, 0.2, 0.2]), np.array([True, True, False, True])
    parts = decomposition(binned(confidence, correct, equal_width(2)))
    assert parts.within == pytest.approx(0)
    assert parts.reliability == pytest.approx((0.2**2 + 0.3**2) / 2)
    assert parts.resolution == pytest.approx((0.25**2 + 0.25**2) / 2)
    assert parts.uncertainty == pytest.approx(3 / 16)


def test_calibrated_models_have_the_error_that_chance_gives():
    """The plug-in error of a calibrated model is what its confidences alone give: p-values are uniform."""
    p, debiased, plain, squared = [], [], [], []
    for seed in range(200):
        confidence, correct = answers(seed, 400)
        edges = equal_width(15)
        bins = binned(confidence, correct, edges)
        null = calibrated_errors(confidence, edges, np.random.default_rng(seed), num=199)
        plain.append(expected_calibration_error(bins) - null.mean())
        p.append((1 + np.count_nonzero(null >= expected_calibration_error(bins) - 1e-12)) / 200)
        debiased.append(debiased_calibration_error(bins) / expected_calibration_error(bins))
        squared.append(squared_calibration_error(bins))
    for level in (0.05, 0.2, 0.5, 0.8):
        assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 200))
    assert np.mean(plain) == pytest.approx(0, abs=3 * np.std(plain) / np.sqrt(200))
    assert np.mean(debiased) < 0.75
    assert np.mean(squared) == pytest.approx(0, abs=3 * np.std(squared) / np.sqrt(200))


def test_simulated_errors_equal_those_of_single_coins():
    confidence, _ = answers(3, 300)
    edges = equal_mass(confidence, 9)
    rng = np.random.default_rng(0)
    slow = [expected_calibration_error(binned(confidence, rng.random(300) < confidence, edges)) for _ in range(2000)]
    fast = calibrated_errors(confidence, edges, rng, num=2000)
    assert fast.mean() == pytest.approx(np.mean(slow), abs=4 * np.std(slow) / np.sqrt(1000))
    assert fast.std() == pytest.approx(np.std(slow), rel=0.1)


def test_debiased_error_is_nearer_to_the_truth():
    confidence, correct = answers(0, 200_000, scale=1.5)
    truth = expected_calibration_error(binned(confidence, correct, equal_width()))
    plain, less = [], []
    for seed in range(1, 60):
        bins = binned(*answers(seed, 300, scale=1.5), equal_width())
        plain.append(expected_calibration_error(bins))
        less.append(debiased_calibration_error(bins))
    assert abs(np.mean(less) - truth) < 0.5 * abs(np.mean(plain) - truth)


def test_interval_of_the_change_covers():
    """Over examples, for the change that is expected with as many examples."""
    found, sides = [], []
    for seed in range(150):
        logits, labels = calibrated(seed, 500)
        sides = []
        for scale in (1.0, 1.4):
            one = scores(scale * logits, labels)
            sides.append((one.confidence, one.answer == labels, equal_width(10)))
        found.append(change_of_error(sides[0], sides[1], np.random.default_rng(seed), num=1000))
    estimate, low, high = np.array(found).T
    covered = np.mean((low <= estimate.mean()) & (estimate.mean() <= high))
    assert 0.9 <= covered <= 0.99
    errors = [expected_calibration_error(binned(*side)) for side in sides]
    assert estimate[-1] == pytest.approx(errors[1] - errors[0])


def test_a_model_does_not_change_against_itself():
    confidence, correct = answers(0)
    side = (confidence, correct, equal_width())
    estimate, low, high = change_of_error(side, side, np.random.default_rng(0))
    assert (estimate, low, high) == pytest.approx((0, 0, 0), abs=1e-6)


def test_classwise_error_equals_a_slow_version_and_adds_up_over_blocks():
    logits, labels = calibrated(4, 300, scale=2)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slow = []
    for c in range(5):
        total = 0.0
        for low in np.linspace(0, 1, 11)[:-1]:
            here = (p[:, c] > low) & (p[:, c] <= low + 0.1)
            total += abs((labels[here] == c).sum() - p[here, c].sum())
        slow.append(total / 300)
    gaps = class_gaps(logits[:100], labels[:100], 10) + class_gaps(logits[100:], labels[100:], 10)
    assert classwise_calibration_error(gaps, 300) == pytest.approx(np.mean(slow))


def test_bins_without_examples_count_nothing():
    bins = binned(np.array([0.95, 0.97]), np.array([True, False]), equal_width(10))
    assert isinstance(bins, Bins)
    assert expected_calibration_error(bins) == pytest.approx(abs(1 - 1.92) / 2)
    assert decomposition(bins).score == pytest.approx((0.05**2 + 0.97**2) / 2)
    assert np.isfinite(debiased_calibration_error(bins))


def test_no_bins_are_refused():
    with pytest.raises(ValueError, match="Expected `num` >= 1 bins, but got 0"):
        equal_width(0)
