from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score

from remnant.stats.membership import Variance, lira, logit_confidence, loss, permuted, rmia, separation
from remnant.stats.roc import roc


def models(seed=0, num_trials=12, num_examples=30, effect=1.0, rate=0.6):
    """Confidences with an effect of training, and which examples each model was trained on."""
    rng = np.random.default_rng(seed)
    included = rng.random((num_trials, num_examples)) < rate
    included[0], included[1], included[2], included[3] = True, False, True, False
    mean = rng.normal(2, 2, num_examples)
    return mean + effect * included + rng.normal(0, 1, included.shape), included, rng


def mean_area(scores, included):
    return np.mean([roc(row, own).area for row, own in zip(scores, included, strict=True) if 0 < own.sum() < len(own)])


def slow_lira(target, shadow, included, online, per_example):
    """Algorithm 1 of Carlini et al. (2022), one target and example at a time, with SciPy's normal distribution."""
    found = np.full(target.shape, np.nan)
    for k in range(len(target)):
        others = np.arange(len(target)) != k
        pooled: dict[bool, Any] = {}
        for kind in (True, False):
            squares = degrees = 0.0
            for i in range(target.shape[1]):
                values = shadow[others & (included[:, i] == kind), i]
                if len(values) > 1:
                    squares += ((values - values.mean()) ** 2).sum()
                    degrees += len(values) - 1
            pooled[kind] = squares / degrees
        for i in range(target.shape[1]):
            logs = {}
            for kind in (True, False):
                values = shadow[others & (included[:, i] == kind), i]
                if len(values) < 1 + per_example:
                    continue
                variance = max(values.var(ddof=1), 1e-4 * pooled[kind]) if per_example else pooled[kind]
                logs[kind] = (
                    stats.norm.logpdf(target[k, i], values.mean(), np.sqrt(variance)),
                    values.mean(),
                    variance,
                )
            if online and len(logs) == 2:
                found[k, i] = logs[True][0] - logs[False][0]
            if not online and False in logs:
                found[k, i] = (target[k, i] - logs[False][1]) / np.sqrt(logs[False][2])
    return found


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("variance", ["global", "example"])
def test_lira_equals_a_slow_version(online, variance):
    confidence, included, rng = models(num_trials=9)
    target = confidence + rng.normal(0, 0.3, confidence.shape)
    fast = lira(target, confidence, included, online=online, variance=variance)
    slow = slow_lira(target, confidence, included, online, variance == "example")
    np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-4)


def test_the_model_of_the_same_subset_is_no_shadow():
    confidence, included, _ = models()
    changed = confidence.copy()
    changed[4] += 100
    one, two = (lira(confidence, shadow, included, variance="example") for shadow in (confidence, changed))
    np.testing.assert_array_equal(one[4], two[4])
    assert (one[5] != two[5]).all()
    outside = (np.zeros((12, 20)), np.zeros((12, 20)))
    a, b = (rmia(confidence, shadow, included, outside) for shadow in (confidence, changed))
    np.testing.assert_array_equal(a[4], b[4])


def test_area_of_lira_is_that_of_two_normal_distributions():
    """With known means and one variance, the likelihood ratio is linear: AUC = Phi(effect / (sqrt(2) sd))."""
    confidence, included, _ = models(num_trials=400, num_examples=200, effect=1.0, rate=0.5)
    expected = stats.norm.cdf(1 / np.sqrt(2))
    assert mean_area(lira(confidence, confidence, included)[4:], included[4:]) == pytest.approx(expected, abs=0.006)
    assert mean_area(lira(confidence, confidence, included, online=False)[4:], included[4:]) == pytest.approx(
        expected, abs=0.006
    )


def test_auto_takes_the_variance_of_examples_with_many_models_only():
    kinds: list[tuple[int, Variance]] = [(40, "global"), (90, "example")]
    for num_trials, kind in kinds:
        confidence, included, _ = models(num_trials=num_trials, rate=0.5)
        auto = lira(confidence, confidence, included)
        np.testing.assert_array_equal(auto, lira(confidence, confidence, included, variance=kind))


def test_membership_that_leaves_no_trace_is_not_found():
    """Membership dealt anew for each example: areas of all attacks are 1/2, and few are found at low rates."""
    confidence, included, rng = models(num_trials=60, num_examples=600, effect=3.0, rate=0.5)
    dealt = permuted(included, rng)
    outside = rng.normal(2, 2, (60, 300))
    for scores in (
        lira(confidence, confidence, dealt),
        lira(confidence, confidence, dealt, online=False),
        rmia(confidence, confidence, dealt, (outside, outside)),
        confidence,
    ):
        curves = [roc(row, own) for row, own in zip(scores, dealt, strict=True) if 0 < own.sum() < len(own)]
        areas = np.array([curve.area for curve in curves])
        assert areas.mean() == pytest.approx(0.5, abs=4 * areas.std() / np.sqrt(len(areas)) + 0.003)
        assert np.mean([curve.true_positive_rate(0.01) for curve in curves]) == pytest.approx(0.012, abs=0.006)


def test_permuted_membership_keeps_how_often_each_example_is_in():
    _, included, rng = models()
    dealt = permuted(included, rng)
    np.testing.assert_array_equal(dealt.sum(axis=0), included.sum(axis=0))
    assert (dealt != included).any()


def test_examples_without_shadow_models_have_no_score():
    confidence, included, _ = models()
    included[:, 3], included[:, 4] = True, False
    online, offline = (lira(confidence, confidence, included, online=way) for way in (True, False))
    assert np.isnan(online[:, [3, 4]]).all()
    assert np.isnan(offline[:, 3]).all()
    assert np.isfinite(offline[:, 4]).all()
    outside = (confidence, confidence)
    assert np.isnan(rmia(confidence, confidence, included, outside)[:, 3]).all()


def test_equal_confidences_are_not_infinitely_sure():
    confidence, included, _ = models(num_trials=90)
    confidence[:, 0] = 5
    assert np.isfinite(lira(confidence, confidence, included, variance="example")).all()
    constant = np.full_like(confidence, 3.0)
    assert np.isfinite(lira(constant, constant, included)).all()


def test_rmia_equals_its_definition():
    """Zarifzadeh et al. (2024): share of z with ratio(x) / ratio(z) >= gamma, offline form, one x at a time."""
    confidence, included, rng = models(num_trials=7, num_examples=15)
    outside = rng.normal(2, 2, (7, 25))
    a, gamma = 0.3, 1.2
    p, q = 1 / (1 + np.exp(-confidence)), 1 / (1 + np.exp(-outside))
    found = rmia(confidence, confidence, included, (outside, outside), offline_a=a, gamma=gamma)
    for k in range(7):
        others = np.arange(7) != k
        mean_z = (1 + a) / 2 * q[others].mean(axis=0) + (1 - a) / 2
        for i in range(15):
            out = others & ~included[:, i]
            if not out.any():
                assert np.isnan(found[k, i])
                continue
            mean_x = (1 + a) / 2 * p[out, i].mean() + (1 - a) / 2
            share = np.mean((p[k, i] / mean_x) / (q[k] / mean_z) >= gamma)
            assert np.floor(found[k, i] * 26 + 1e-4) == pytest.approx(share * 25)


def test_rmia_orders_examples_that_beat_every_outside_one():
    confidence = np.array([[8.0, 9], [1, 1], [1, 1]])
    included = np.array([[True, True], [False, False], [False, False]])
    outside = np.zeros((3, 5))
    found = rmia(confidence, confidence, included, (outside, outside))
    assert 5 / 6 < found[0, 0] < found[0, 1] < 1


def test_a_ratio_that_is_just_gamma_counts():
    """All confidences are 0, so that every ratio is the same and x beats every z by the factor 1 = gamma."""
    zeros = np.zeros((3, 4))
    found = rmia(zeros, zeros, np.zeros((3, 4), bool), (zeros, zeros))
    assert (found > 4 / 5).all()


def test_separation_equals_the_area_of_each_example():
    confidence, included, _ = models(num_trials=20)
    confidence = np.round(confidence)
    found = separation(confidence.astype(np.float16), included)
    for i in range(confidence.shape[1]):
        assert found[i] == pytest.approx(roc_auc_score(included[:, i], confidence[:, i]))
    included[:, 0] = True
    assert np.isnan(separation(confidence, included)[0])


def test_confidence_and_loss_of_two_classes_by_hand():
    """p = sigmoid(z0 - z1), so that log(p / (1 - p)) is the difference of the logits, also where p rounds to 1."""
    logits = np.array([[2.0, 0.5], [400.0, 0.0], [0.0, 400.0]])
    confidence = logit_confidence(logits, np.zeros(3, int))
    np.testing.assert_allclose(confidence, [1.5, 400, -400])
    np.testing.assert_allclose(loss(confidence), [np.log1p(np.exp(-1.5)), 0, 400], atol=1e-12)


def test_confidence_and_loss_equal_those_of_probabilities():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (4, 50, 6)), rng.integers(0, 6, 50)
    p = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    true = np.take_along_axis(p, np.broadcast_to(labels[:, None], (4, 50, 1)), axis=-1)[..., 0]
    confidence = logit_confidence(logits, labels)
    np.testing.assert_allclose(confidence, np.log(true / (1 - true)))
    assert loss(confidence)[0].mean() == pytest.approx(log_loss(labels, p[0], labels=range(6)))


def test_bad_input_is_refused():
    confidence, included, _ = models()
    with pytest.raises(ValueError, match="of one shape"):
        lira(confidence, confidence[:5], included)
    with pytest.raises(ValueError, match="boolean `included`"):
        lira(confidence, confidence, included.astype(int))
    with pytest.raises(ValueError, match="at least 3 models"):
        lira(confidence[:2], confidence[:2], included[:2])
    with pytest.raises(ValueError, match=r"Expected `variance` to be one of \['auto', 'example', 'global'\]"):
        lira(confidence, confidence, included, variance="local")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"Expected `offline_a` in \[0, 1\]"):
        rmia(confidence, confidence, included, (confidence, confidence), offline_a=2)
