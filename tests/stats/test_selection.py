import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from remnant.stats.selection import (
    apportion,
    isotonic,
    raise_to_floor,
    select,
    smallest_share,
    smallest_share_interval,
    spread,
)

METHODS = ("hard", "easy", "hybrid", "stratified", "random")
BALANCES = ("none", "proportional", "equal")
SCORES = np.array([5.0, 1, 4, 1, 5, 9, 2, 6, 5, 3])
LABELS = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])


def test_hard_keeps_the_highest_and_easy_the_lowest():
    assert select(SCORES, LABELS, 0.3, floor=0).tolist() == [0, 5, 7]
    assert select(SCORES, LABELS, 0.3, method="easy", floor=0).tolist() == [1, 3, 6]


def test_ties_go_to_the_lowest_id():
    ids = np.array(list("jihgfedcba"))
    assert select(SCORES, LABELS, 0.3, floor=0, ids=ids).tolist() == [5, 7, 8]  # 5.0 at "j", "f" and "b"


def test_hybrid_keeps_the_hardest_and_the_easiest():
    """4 of 10: round(4 * 0.4) = 2 hardest (9, 6) and 2 easiest (1, 1)."""
    assert select(SCORES, LABELS, 0.4, method="hybrid", floor=0).tolist() == [1, 3, 5, 7]


def test_small_hybrids_are_mostly_easy_and_large_ones_mostly_hard():
    scores = np.arange(100.0)
    few, many = (select(scores, np.zeros(100, int), share, method="hybrid") for share in (0.1, 0.9))
    assert (few < 50).sum() == 9
    assert (many >= 19).sum() == 81


def test_proportional_classes_lose_the_same_share():
    kept = select(np.arange(100.0), np.repeat([0, 1, 2], [60, 30, 10]), 0.5, balance="proportional")
    assert np.bincount(np.repeat([0, 1, 2], [60, 30, 10])[kept]).tolist() == [30, 15, 5]
    assert kept.tolist() == [*range(30, 60), *range(75, 90), *range(95, 100)]


def test_equal_classes_keep_equally_many_or_all_they_have():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    kept = select(np.arange(100.0), labels, 0.5, method="random", balance="equal")
    assert np.bincount(labels[kept]).tolist() == [20, 20, 10]


def test_a_floor_takes_from_the_others_in_proportion():
    labels = np.repeat([0, 1, 2], [40, 40, 20])
    kept = select(np.arange(100.0), labels, 0.5, floor=5)
    assert np.bincount(labels[kept]).tolist() == [5, 27, 18]  # 0, 30, 20 give up 5 * 25/40 = 3.1 and 5 * 15/40 = 1.9
    assert kept.tolist() == [*range(35, 40), *range(53, 80), *range(82, 100)]


def test_no_class_vanishes_by_default():
    labels = np.repeat([0, 1], [90, 10])
    assert 1 in labels[select(-np.arange(100.0), labels, 0.1)]


def published_budgets(total, sizes):
    """Budgets of strata as the code published with Zheng et al. (2023) deals them out, written anew as a slow loop."""
    sizes, budgets, rest = list(sizes), [0] * len(sizes), total
    places = sorted(range(len(sizes)), key=lambda place: sizes[place])
    while places:
        average = rest // len(places)
        place = places.pop(0)
        budgets[place] = min(sizes[place], average)
        rest -= budgets[place]
    return budgets


def test_stratified_budgets_worked_by_hand():
    """10 over strata of 1, 2 and 20: 10 // 3 = 3 > 1; 9 // 2 = 4 > 2; 7 // 1 = 7."""
    assert spread(10, [20, 1, 2]).tolist() == [7, 1, 2]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.data())
def test_stratified_budgets_are_those_of_the_published_code(sizes, data):
    total = data.draw(st.integers(0, sum(sizes)))
    found = spread(total, sizes)
    assert found.tolist() == published_budgets(total, sizes)
    assert found.sum() == total


def test_strata_of_one_width_give_equally_many_examples():
    """Scores 0 to 49 in 50 strata of one width; 50 more lie in the first stratum."""
    scores = np.concatenate([np.arange(50.0), np.full(50, 0.1)])
    kept = select(scores, np.zeros(100, int), 0.5, method="stratified")
    # 49 strata of 1 give all they have; the first, with 51, gives the one that is left.
    assert set(range(1, 50)) <= set(kept.tolist())
    assert len(kept) == 50


def test_stratified_drops_the_hardest_first():
    scores = np.arange(100.0)
    kept = select(scores, np.zeros(100, int), 0.3, method="stratified", cutoff=0.4)
    assert kept.max() < 60
    assert len(select(scores, np.zeros(100, int), 0.9, method="stratified", cutoff=0.4)) == 90


@settings(deadline=None, max_examples=60)
@given(
    number=st.integers(6, 60),
    share=st.floats(0.2, 1.0),
    method=st.sampled_from(METHODS),
    balance=st.sampled_from(BALANCES),
    seed=st.integers(0, 99),
)
def test_choice_has_the_size_and_ignores_the_order_of_examples(number, share, method, balance, seed):
    rng = np.random.default_rng(seed)
    labels, scores = np.arange(number) % 3, rng.integers(0, 6, number).astype(float)
    ids = np.array([f"id-{k:03}" for k in rng.permutation(number)])
    floor = 1 if share * number >= 3 else 0
    options = {"method": method, "balance": balance, "floor": floor, "seed": seed}
    kept = select(scores, labels, share, ids=ids, **options)
    assert len(kept) == len(set(kept.tolist())) == max(1, int(share * number + 0.5))
    assert (np.diff(kept) > 0).all()
    assert (np.bincount(labels[kept], minlength=3) >= floor).all()
    order = rng.permutation(number)
    again = select(scores[order], labels[order], share, ids=ids[order], **options)
    assert set(ids[order][again]) == set(ids[kept])


@given(st.integers(0, 200), st.lists(st.integers(0, 50), min_size=1, max_size=8))
def test_apportioned_numbers_are_whole_proportional_and_complete(total, weights):
    found = apportion(total, weights)
    if not any(weights):
        assert found.sum() == 0
        return
    exact = total * np.array(weights) / sum(weights)
    assert found.sum() == total
    assert (np.abs(found - exact) < 1).all()


def test_apportioned_seats_of_a_textbook():
    """Hamilton's method, 10 seats for 6, 6 and 2 voters: 4.29, 4.29, 1.43 give 4, 4, 2."""
    assert apportion(10, [6, 6, 2]).tolist() == [4, 4, 2]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 5))
def test_floors_keep_the_sum(quotas, floor):
    quotas = np.array(quotas)
    if floor * len(quotas) <= quotas.sum():
        raised = raise_to_floor(quotas, floor)
        assert raised.sum() == quotas.sum()
        assert (raised >= floor).all()
        assert (raised[quotas >= floor] <= quotas[quotas >= floor]).all()


def test_random_choices_of_other_seeds_differ_and_are_uniform():
    counts = np.zeros(20)
    for seed in range(400):
        counts[select(None, np.zeros(20, int), 0.5, method="random", seed=seed)] += 1
    assert abs(counts - 200).max() < 4 * np.sqrt(400 * 0.25)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=10))
def test_isotonic_fit_is_that_of_scipy(values):
    assert isotonic(values) == pytest.approx(optimize.isotonic_regression(values).x, abs=1e-12)


def test_smallest_share_lies_on_the_line_between_tested_shares():
    """Change -0.04 at 1/8 and 0 at 1/2: -0.02 half way on the logarithm, at 1/4."""
    assert smallest_share([0.125, 0.5, 1], [-0.04, 0, 0], 0.02) == pytest.approx(0.25)
    assert smallest_share([0.25, 0.5, 1], [-0.01, 0, 0], 0.02) == 0.25
    assert np.isnan(smallest_share([0.25, 0.5], [-0.5, -0.1], 0.02))


def test_smallest_share_does_not_depend_on_dips():
    """A dip between shares that are enough is averaged away: (0.01 - 0.03) / 2 = -0.01."""
    assert smallest_share([0.1, 0.4, 0.5, 1], [-0.1, 0.01, -0.03, 0], 0.01) == pytest.approx(0.4)


def test_interval_of_the_smallest_share_covers_it():
    """Change = 0.05 log2(share), so that -0.05 is reached at 1/2; noise as of ten seeds of a small network."""
    rng = np.random.default_rng(0)
    shares = np.array([0.2, 0.35, 0.45, 0.55, 0.7, 1])
    truth = 0.05 * np.log2(shares)
    covered = 0
    for _ in range(300):
        noise = rng.normal(0, 0.01, (10, 6)) * (shares < 1)
        found = smallest_share_interval(shares, truth + noise, 0.05)
        covered += float(found.low) <= 0.5 <= float(found.high)
    assert 300 * 0.90 <= covered <= 300 * 0.99


def test_interval_is_unknown_with_two_seeds_or_at_the_smallest_share():
    change = np.array([[-0.1, 0], [-0.12, 0]])
    assert np.isnan(smallest_share_interval([0.5, 1], change, 0.02).low)
    enough = smallest_share_interval([0.5, 1], np.zeros((5, 2)), 0.02)
    assert float(enough.estimate) == 0.5
    assert np.isnan(enough.high)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0.0}, r"Expected `share` in \(0, 1\], but got 0.0"),
        ({"share": 1.1}, r"Expected `share` in \(0, 1\]"),
        ({"share": float("nan")}, r"Expected `share` in \(0, 1\]"),
        ({"scores": np.where(SCORES == 9, np.nan, SCORES)}, r"1 of 10 are NaN or infinite \(first: '5'\)"),
        ({"scores": SCORES[:9]}, "Expected one score for each of 10 labels"),
        ({"scores": None}, "Expected `scores` for every method but 'random'"),
        ({"ids": np.zeros(10)}, "Expected distinct `ids`"),
        ({"ids": np.arange(9)}, "Expected one id for each of 10 labels"),
        ({"labels": np.array([], int), "scores": []}, "at least 1 training example"),
        ({"floor": 3}, "`floor` = 3 examples of every class, but class 2 has 1"),
        ({"floor": -1}, "Expected `floor` >= 0"),
        ({"share": 0.2}, "Expected `share` to leave `floor` = 1 examples for each of 3 classes, but it leaves 2"),
        ({"cutoff": 1.0}, r"Expected `cutoff` in \[0, 1\)"),
        ({"method": "hardest"}, "Expected `method` to be one of"),
        ({"balance": "even"}, "Expected `balance` to be one of"),
    ],
)
def test_bad_input_is_a_clear_error(options, message):
    given_ = {"scores": SCORES, "labels": LABELS, "share": 0.5, **options}
    with pytest.raises(ValueError, match=message):
        select(given_.pop("scores"), given_.pop("labels"), given_.pop("share"), **given_)
