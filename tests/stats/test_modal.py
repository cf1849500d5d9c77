import numpy as np
import pytest

from remnant.stats.modal import (
    TIE_RULES,
    exemplar_counts,
    exemplars_within,
    extrapolated_count,
    half_sample_error,
    modal_labels,
    settle,
    tally,
    vote_distance,
)
from remnant.stats.resampling import permutation_p, relabelings, swaps


def draw(rng, likely, num_trials):
    """Predictions of independent trials, each class of an example with its probability: (trial, example)."""
    return (rng.random((num_trials, len(likely), 1)) > likely.cumsum(axis=1)[:, :-1]).sum(axis=2)


def slow_modal(predictions, probability, tie):
    """Modal labels one example at a time; `probability` of all classes."""
    found = []
    for i in range(predictions.shape[1]):
        votes = np.bincount(predictions[:, i], minlength=probability.shape[2])
        best = np.flatnonzero(votes == votes.max())
        key = {"lowest": -best, "highest": best, "most-probable": probability[:, i, best].mean(axis=0)}[tie]
        found.append(best[np.argmax(key)])
    return np.array(found)


def settled(predictions, probability, tie):
    votes = tally(predictions)
    picked = np.take_along_axis(probability, np.maximum(votes.labels, 0)[None], axis=2)
    return settle(votes, tie, picked)


@pytest.mark.parametrize("tie", TIE_RULES)
@pytest.mark.parametrize("num_trials", [2, 5, 8])
def test_modal_labels_and_counts_equal_loops(tie, num_trials):
    rng = np.random.default_rng(num_trials)
    likely = rng.dirichlet(np.full(6, 0.4), 120)
    predictions = draw(rng, likely, 2 * num_trials)
    probability = rng.dirichlet(np.ones(6), predictions.shape)
    votes = settled(predictions, probability, tie)
    ways = relabelings(num_trials, num_trials, 60, rng)
    slow = np.array(
        [
            slow_modal(predictions[row], probability[row], tie) != slow_modal(predictions[~row], probability[~row], tie)
            for row in ways.in_first
        ]
    )
    counts, share = exemplar_counts(votes, ways.in_first, ~ways.in_first)
    np.testing.assert_array_equal(counts, slow.sum(axis=1))
    np.testing.assert_allclose(share, slow.mean(axis=0))
    half = ways.in_first[-1]
    found = modal_labels(votes, half)
    np.testing.assert_array_equal(found.label, slow_modal(predictions[half], probability[half], tie))
    table = np.stack([(predictions[half] == c).sum(axis=0) for c in range(6)])
    np.testing.assert_array_equal(found.votes, table.max(axis=0))
    np.testing.assert_array_equal(found.tied, (table == table.max(axis=0)).sum(axis=0) > 1)


def test_tie_rules_by_hand():
    predictions = np.array([[2, 1], [0, 1], [2, 3], [0, 1]])
    probability = np.zeros((4, 2, 4))
    probability[:, 0, 0], probability[:, 0, 2] = 0.3, 0.4
    labels = {tie: modal_labels(settled(predictions, probability, tie)) for tie in TIE_RULES}
    assert {tie: found.label.tolist() for tie, found in labels.items()} == {
        "most-probable": [2, 1],
        "lowest": [0, 1],
        "highest": [2, 1],
    }
    assert labels["lowest"].tied.tolist() == [True, False]
    assert labels["lowest"].votes.tolist() == [2, 3]


def test_equal_probabilities_go_to_the_lowest_class_in_any_order_of_models():
    predictions = np.array([[1], [0], [1], [0]])
    probability = np.zeros((4, 1, 2))
    # Sums of these numbers in floating point depend on the order.
    probability[:, 0, 0], probability[:, 0, 1] = (0.1, 0.7, 0.2, 0.3), (0.3, 0.2, 0.7, 0.1)
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0]):
        votes = settled(predictions[order], probability[order], "most-probable")
        assert modal_labels(votes).label.tolist() == [0]


def test_many_models_and_classes_stay_exact():
    rng = np.random.default_rng(1)
    likely = rng.dirichlet(np.full(50, 0.05), 80)
    predictions = draw(rng, likely, 400)
    probability = np.broadcast_to(likely, (400, *likely.shape))
    for tie in TIE_RULES:
        votes = settled(predictions, probability, tie)
        assert votes.tie_break.sum(axis=0).max() < votes.vote
        np.testing.assert_array_equal(modal_labels(votes).label, slow_modal(predictions, probability, tie))


def test_close_probabilities_decide_between_many_models():
    predictions = np.repeat([[0], [1]], 200, axis=0)
    probability = np.full((400, 1, 2), 0.5)
    probability[:, 0, 1] = 0.501
    assert modal_labels(settled(predictions, probability, "most-probable")).label.tolist() == [1]


def test_no_exemplars_against_itself():
    rng = np.random.default_rng(2)
    predictions = draw(rng, rng.dirichlet(np.ones(4), 100), 6)
    votes = tally(np.concatenate([predictions, predictions]))
    every = swaps(6, 64, rng).in_first
    counts, share = exemplar_counts(votes, every, ~every)
    assert not counts.any()
    assert not share.any()
    assert not vote_distance(votes, np.arange(12) < 6).any()


def test_vote_distance_by_hand():
    predictions = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 2], [1, 0, 0]])
    first = np.array([True, True, False, False])
    np.testing.assert_allclose(vote_distance(tally(predictions), first), [1.0, 0.0, 1.0])
    np.testing.assert_allclose(vote_distance(tally(predictions[:3]), first[:3]), [1.0, 0.5, 1.0])


def test_p_of_the_count_is_uniform_under_the_null():
    rng = np.random.default_rng(3)
    likely = rng.dirichlet(np.full(3, 0.6), 150)
    for common in (False, True):
        p, excess = [], []
        for _ in range(250):
            first, second = draw(rng, likely, 9), draw(rng, likely, 9)
            if common:  # Pairs share most of their answers.
                second = np.where(rng.random(first.shape) < 0.6, first, second)
            votes = tally(np.concatenate([first, second]))
            ways = swaps(9, 199, rng) if common else relabelings(9, 9, 199, rng)
            null, _ = exemplar_counts(votes, ways.in_first, ~ways.in_first)
            observed = np.arange(18)[None] < 9
            count = exemplar_counts(votes, observed, ~observed)[0][0]
            p.append(float(permutation_p(count, null, exact=ways.exact)))
            excess.append(count - null.mean())
        # A count is discrete: its p is a little conservative, never liberal.
        for level in (0.05, 0.2, 0.5):
            assert level - 0.16 <= np.mean(np.array(p) <= level) <= level + 2.5 * np.sqrt(level * (1 - level) / 250)
        assert np.mean(excess) == pytest.approx(0, abs=3 * np.std(excess) / np.sqrt(250))


def test_intervals_of_the_count_cover():
    rng = np.random.default_rng(4)
    likely = rng.dirichlet(np.full(3, 0.6), 300)
    shifted = likely.copy()
    shifted[:60] = np.roll(shifted[:60], 1, axis=1)
    observed = np.arange(20) < 10
    for second in (likely, shifted):
        counts, errors = [], []
        for _ in range(200):
            votes = tally(np.concatenate([draw(rng, likely, 10), draw(rng, second, 10)]))
            counts.append(exemplar_counts(votes, observed[None], ~observed[None])[0][0])
            errors.append(half_sample_error(votes, observed, rng, paired=False, num=40))
        counts, errors = np.array(counts), np.array(errors)
        covered = np.abs(counts - counts.mean()) <= 2.262 * errors
        assert covered.mean() >= 0.93
        assert np.mean(errors) == pytest.approx(np.std(counts), rel=0.12)


def test_counts_within_one_population_are_those_between_two_of_the_same_kind():
    rng = np.random.default_rng(5)
    likely = rng.dirichlet(np.full(3, 0.6), 400)
    within, between, further = [], [], []
    for _ in range(30):
        votes = tally(draw(rng, likely, 40))
        every = np.ones(40, bool)
        within.append(exemplars_within(votes, every, 10, rng, num=30))
        further.append(extrapolated_count(20, (5, 10), (exemplars_within(votes, every, 5, rng, num=30), within[-1])))
        first = np.zeros((2, 40), bool)
        first[0, :10], first[1, 10:20] = True, True
        between.append(exemplar_counts(votes, first[:1], first[1:])[0][0])
    assert np.mean(within) == pytest.approx(np.mean(between), rel=0.05)
    votes = [tally(draw(rng, likely, 40)) for _ in range(30)]
    halves = np.arange(40)[None] < 20
    truth = np.mean([exemplar_counts(v, halves, ~halves)[0][0] for v in votes])
    assert np.mean(further) == pytest.approx(truth, rel=0.08)


def test_extrapolation_follows_a_power_law():
    assert extrapolated_count(32, (4, 8, 16), (100, 40, 20)) == pytest.approx(10)
    assert extrapolated_count(32, (8, 16), (3, 0)) == 0


def test_errors_name_what_is_wrong():
    votes = tally(np.array([[0, 1], [1, 1]]))
    with pytest.raises(ValueError, match="Expected `tie` to be one of"):
        settle(votes, "first")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"Expected `probability` of shape \(2, 2, 2\)"):
        settle(votes, "most-probable")
    with pytest.raises(ValueError, match=r"Expected `size` in \[1, 1\]"):
        exemplars_within(votes, np.ones(2, bool), 2, np.random.default_rng(0))
