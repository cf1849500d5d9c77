import numpy as np
import pytest
from scipy.linalg import helmert
from scipy.special import ndtr

from remnant.stats.influence import influence
from remnant.stats.influence_adjustment import RATIOS, Effects, _best_ratio, adjusted_effects, adjustment
from remnant.stats.influence_estimators import (
    GROUPS,
    adjusted_influence,
    combined_influence,
    margin_similarity,
    probability_above,
    shifted_influence,
    similarity_group,
)

NUM_TRAIN, NUM_TEST = 60, 40


def population(trials: int, seed: int):
    """Normal margins; every fourth test example has one training example that shifts its margin by 1.5."""
    rng = np.random.default_rng(seed)
    included = rng.random((trials, NUM_TRAIN)) < 0.7
    effect = np.zeros((NUM_TEST, NUM_TRAIN))
    effect[np.arange(0, NUM_TEST, 4), np.arange(0, NUM_TEST, 4)] = 1.5
    mean = np.random.default_rng(0).normal(1, 1, NUM_TEST)
    margin = mean + included @ effect.T + rng.normal(size=(trials, NUM_TEST))
    truth = ndtr(mean[:, None] + 0.7 * (effect.sum(axis=1)[:, None] - effect) + effect)
    truth -= ndtr(mean[:, None] + 0.7 * (effect.sum(axis=1)[:, None] - effect))
    return margin, included, np.where(effect > 0, truth, 0)


def error(value, truth):
    return np.sqrt(np.mean((value - truth) ** 2))


def test_shift_by_hand():
    """Normal margins with mean 0 and variance 1, half of the trials, an effect of exactly 1."""
    included = np.array([True, True, True, False, False, False])[:, None]
    within = np.array([-1.0, 0, 1] * 2)
    margin = (within + np.where(included[:, 0], 0.5, -0.5))[:, None]
    # What remains has the variance 4 / (t - 2) = 1: Phi(0.5) - Phi(-0.5), from a table of the normal distribution.
    assert shifted_influence(margin, included).value[0, 0] == pytest.approx(0.382925, abs=1e-6)


def test_margins_save_trials_where_they_are_normal():
    plain, shifted, combined = [], [], []
    for seed in range(5):
        margin, included, truth = population(100, seed)
        plain.append(error(influence(margin > 0, included).value, truth))
        shifted.append(error(shifted_influence(margin, included).value, truth))
        combined.append(error(combined_influence(margin > 0, margin, included).value, truth))
    assert np.mean(shifted) < 0.8 * np.mean(plain)
    assert np.mean(combined) < 0.92 * np.mean(plain)


def test_standard_errors_are_those_of_pairs_without_effect():
    margin, included, truth = population(300, 1)
    none = (truth == 0) & (np.arange(NUM_TEST) % 4 != 0)[:, None]
    for effects in (shifted_influence(margin, included), combined_influence(margin > 0, margin, included)):
        ratio = (effects.value / effects.standard_error)[none].std()
        assert 0.8 < ratio < 1.05


def test_adjustment_takes_off_the_noise_of_others():
    """Half of the variance of an outcome comes from one memorized training example."""
    rng = np.random.default_rng(3)
    plain, adjusted = [], []
    memorization = np.where(np.arange(NUM_TRAIN) == 7, 0.9, 0.0)
    for _ in range(20):
        included = rng.random((80, NUM_TRAIN)) < 0.5
        outcome = 2 * included[:, [7]] + rng.normal(size=(80, 5))
        others = np.delete(np.arange(NUM_TRAIN), 7)
        plain.append(influence(outcome, included).value[:, others].std())
        effects = adjusted_effects(outcome, adjustment(included, memorization))
        adjusted.append(effects.value[:, others].std())
        assert abs(effects.value[:, 7].mean() - 2) < 0.5
    assert np.mean(adjusted) < 0.8 * np.mean(plain)


def test_adjusted_effects_are_generalized_least_squares():
    rng = np.random.default_rng(4)
    included, outcome = rng.random((20, 8)) < 0.6, rng.normal(size=(20, 3))
    memorization = rng.random(8)
    given = adjustment(included, memorization)
    found = adjusted_effects(outcome, given)
    x, y = included - included.mean(axis=0), outcome - outcome.mean(axis=0)
    # 19 contrasts of 20 trials: an orthonormal basis of all that sums to 0 (Helmert).
    contrasts = helmert(20)
    for j in range(3):
        candidates = []
        for ratio in RATIOS:
            total = (x * given.prior) @ x.T + ratio * np.eye(20)
            scale = y[:, j] @ np.linalg.solve(total, y[:, j]) / 19
            of_contrasts = np.linalg.slogdet(contrasts @ total @ contrasts.T)[1]
            candidates.append((-19 * np.log(scale) / 2 - of_contrasts / 2, ratio, scale))
        _, ratio, scale = max(candidates)
        for i in range(8):
            others = np.delete(np.arange(8), i)
            total = (x[:, others] * given.prior[others]) @ x[:, others].T + ratio * np.eye(20)
            precision = x[:, i] @ np.linalg.solve(total, x[:, i])
            slow = x[:, i] @ np.linalg.solve(total, y[:, j]) / precision
            assert found.value[j, i] == pytest.approx(slow, rel=1e-8)
            assert found.standard_error[j, i] == pytest.approx(np.sqrt(scale / precision), rel=1e-8)


def test_nothing_is_taken_off_where_there_is_nothing():
    """Of noise alone, the largest ratio (no effects of others) is the most probable one, at any number of trials."""
    rng = np.random.default_rng(8)
    for num_trials in (20, 60):
        given = adjustment(rng.random((num_trials, NUM_TRAIN)) < 0.7, np.full(NUM_TRAIN, 0.05))
        noise = rng.normal(size=(num_trials, 2_000))
        noise -= noise.mean(axis=0)
        chosen = _best_ratio(given.vectors.T @ noise, given.eigenvalues)
        shares = np.bincount(chosen, minlength=len(RATIOS)) / 2_000
        assert shares.argmax() == len(RATIOS) - 1, shares


def test_without_other_effects_the_adjusted_influence_is_the_combined_one():
    margin, included, _ = population(400, 5)
    memorization = np.zeros(NUM_TRAIN)
    plain = combined_influence(margin > 0, margin, included)
    found = adjusted_influence(margin > 0, margin, adjustment(included, memorization), np.arange(10))
    assert np.corrcoef(found.value.ravel(), plain.value[:, :10].ravel())[0, 1] > 0.97
    assert np.median(found.standard_error / plain.standard_error[:, :10]) == pytest.approx(1, abs=0.1)


def test_posterior_finds_what_the_plain_estimate_finds_with_more_trials():
    margin, included, truth = population(60, 6)
    effects = combined_influence(margin > 0, margin, included)
    memorization = np.where(truth.max(axis=0) > 0, 0.8, 0.01)
    with_it = probability_above(effects, 0.15, memorization=memorization)
    high = truth >= 0.15
    assert average_precision(with_it, high) > average_precision(influence(margin > 0, included).value, high) + 0.2


def test_probabilities_are_calibrated():
    """Influences drawn from the prior's family: of pairs with a probability about x a share about x is above."""
    rng = np.random.default_rng(7)
    truth = np.where(rng.random((200, 300)) < 0.05, rng.normal(0, 0.32, (200, 300)), 0)
    error_ = np.full(truth.shape, 0.08)
    found = probability_above(Effects(truth + rng.normal(0, 0.08, truth.shape), error_), 0.15)
    for low, high in ((0.05, 0.3), (0.3, 0.7), (0.7, 0.95)):
        some = (found > low) & (found <= high)
        share = (truth[some] >= 0.15).mean()
        assert abs(share - found[some].mean()) < 4 * np.sqrt(0.25 / some.sum())


@pytest.mark.parametrize("seed", range(3))
def test_without_any_effect_no_pair_is_likely(seed):
    """20,000 pairs: fewer than 20 are expected above the threshold, where the plain estimate puts 1,336."""
    rng = np.random.default_rng(seed)
    effects = Effects(rng.normal(0, 0.1, (100, 200)), np.full((100, 200), 0.1))
    found = probability_above(effects, 0.15)
    assert found.max() < 0.5
    assert found.sum() < 20


def test_a_few_pairs_do_not_make_their_own_prior():
    """Estimates of 0.2 with errors of 0.1: five could be noise; that 2,000 are there and none below can not."""
    few, many = (Effects(np.full((1, number), 0.2), np.full((1, number), 0.1)) for number in (5, 2000))
    assert probability_above(few, 0.15).max() < 0.01
    assert probability_above(many, 0.15).min() > 0.45


def test_a_group_with_effects_does_not_speak_for_another():
    rng = np.random.default_rng(9)
    group = np.repeat([[0, 1]], 200, axis=0).repeat(100, axis=1)
    truth = np.where((group == 1) & (rng.random(group.shape) < 0.3), 0.4, 0.0)
    effects = Effects(truth + rng.normal(0, 0.1, truth.shape), np.full(truth.shape, 0.1))
    found = probability_above(effects, 0.15, group=group)
    same = np.abs(effects.value - 0.25) < 0.03
    assert found[same & (group == 1)].mean() > 10 * found[same & (group == 0)].mean()


def test_similarity_is_the_correlation_of_what_remains():
    rng = np.random.default_rng(10)
    included = rng.random((500, 2)) < 0.7
    shared = rng.normal(size=500)
    train_margin = np.stack([shared, rng.normal(size=500)], axis=1) + 3 * included
    margin = np.stack([shared + 0.1 * rng.normal(size=500), np.ones(500)], axis=1)
    found = margin_similarity(margin, train_margin, included)
    assert found[0, 0] > 0.97
    assert abs(found[0, 1]) < 0.15
    assert (found[1] == 0).all()


def test_groups_hold_the_shares_that_they_name():
    similarity = np.random.default_rng(11).random((3, 100))
    group = similarity_group(similarity)
    assert np.bincount(group[0]).tolist() == [50, 30, 10, 5, 3, 2]
    assert len(GROUPS) == 5
    assert group[0, similarity[0].argmax()] == 5


def test_training_examples_in_all_trials_have_no_influence():
    margin, included, _ = population(50, 12)
    included[:, 3] = True
    effects = combined_influence(margin > 0, margin, included)
    found = probability_above(effects, 0.15)
    assert np.isnan(effects.value[:, 3]).all()
    assert np.isnan(found[:, 3]).all()
    assert np.isfinite(np.delete(found, 3, axis=1)).all()
    assert np.isnan(adjusted_influence(margin > 0, margin, adjustment(included, np.zeros(NUM_TRAIN))).value[:, 3]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shifted_influence(np.zeros((2, 1)), np.eye(2, dtype=bool)), "at least 3 trials, but got 2"),
        (lambda: probability_above(Effects(np.zeros((2, 2)), np.ones((2, 2))), 0.0), r"`threshold` in \(0, 1\)"),
        (
            lambda: probability_above(Effects(np.zeros((2, 2)), np.ones((2, 2))), 0.1, memorization=np.zeros(3)),
            r"`memorization` of shape \(2,\)",
        ),
        (lambda: adjustment(np.eye(4, dtype=bool), np.zeros(3)), "one value for each of 4 training examples"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def average_precision(score, true):
    order = np.argsort(-score.ravel(), kind="stable")
    hits = true.ravel()[order]
    return (np.cumsum(hits)[hits] / (np.flatnonzero(hits) + 1)).mean()


def test_arrays_that_do_not_belong_together_are_refused():
    margin, included, _ = population(20, 6)
    given = adjustment(included, np.zeros(NUM_TRAIN))
    with pytest.raises(ValueError, match=r"`correct` and `margin` of one shape, but got \(20, 5\) and \(20, 40\)"):
        combined_influence(margin[:, :5] > 0, margin, included)
    with pytest.raises(ValueError, match="`correct` and `margin` of one shape"):
        adjusted_influence(margin > 0, margin[:, :5], given)
    with pytest.raises(ValueError, match="`train_margin` and `included` of one shape"):
        margin_similarity(margin, margin, included)
