import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remnant import plan
from remnant.schemes import Dense, Float16, MagnitudePruning
from remnant.trial import Recipe, Subset, Trial

RECIPE = Recipe("digits", "mlp")
LABELS = np.arange(1000) % 10


def masks(design: str, fraction: float, count: int = 40, seed: int = 0) -> np.ndarray:
    rows = plan.rows(count, design=design, fraction=fraction, seed=seed)
    return np.stack([plan.included(row, LABELS) for row in rows])


def test_a_grid_has_each_scheme_and_seed_once_and_the_dense_reference():
    trials = plan.grid(RECIPE, [Float16(), Float16()], range(3))
    assert trials == [Trial(RECIPE, scheme, seed) for scheme in (Dense(), Float16()) for seed in range(3)]


def test_repeated_seeds_are_refused():
    with pytest.raises(ValueError, match="distinct `seeds`"):
        plan.grid(RECIPE, [], [1, 1])


def test_fewer_than_two_subsets_are_refused():
    with pytest.raises(ValueError, match="`num_trials` >= 2"):
        plan.subsets(RECIPE, 1)


def test_parents_run_first_and_once():
    trials = plan.grid(RECIPE, [Float16(), MagnitudePruning(0.5)], range(2))[2:]  # without the dense ones
    roots, children = plan.waves(trials)
    assert {t.scheme for t in roots} == {Dense(), MagnitudePruning(0.5)}
    assert len(roots) == len(set(roots)) == 4
    assert children == [t for t in trials if t.scheme == Float16()]


def test_fixed_subsets_have_a_fixed_size():
    assert (masks("fixed", 0.7).sum(axis=1) == 700).all()


def test_bernoulli_subsets_vary_around_the_fraction():
    sizes = masks("bernoulli", 0.7).sum(axis=1)
    assert sizes.std() > 5
    # 40,000 coins: the mean is within 4 standard errors of 0.7.
    assert abs(sizes.mean() / 1000 - 0.7) < 4 * np.sqrt(0.7 * 0.3 / 40_000)


def test_stratified_subsets_take_the_same_number_of_every_class():
    for mask in masks("stratified", 0.7, count=5):
        assert np.bincount(LABELS[mask]).tolist() == [70] * 10


@pytest.mark.parametrize("design", ["fixed", "bernoulli", "stratified", "pairs", "doubly-balanced"])
def test_trials_can_be_added_to_a_design(design):
    """The first rows, and so their keys, do not depend on how many there are."""
    assert plan.rows(20, design=design, fraction=0.5) == plan.rows(40, design=design, fraction=0.5)[:20]


def test_pairs_are_complementary_halves():
    found = masks("pairs", 0.5)
    assert (found[0::2] ^ found[1::2]).all()
    assert not np.array_equal(found[0], found[2])


def test_balanced_subsets_hold_every_example_equally_often():
    assert set(masks("balanced", 0.7).sum(axis=0)) == {28}


def test_balanced_subsets_round_an_uneven_number_up_or_down():
    counts = masks("balanced", 0.7, count=11).sum(axis=0)  # 7.7 of 11
    assert set(counts) == {7, 8}
    assert abs(counts.mean() - 7.7) < 0.06


@given(st.integers(5, 60), st.floats(0.2, 0.8), st.integers(0, 3))
def test_doubly_balanced_subsets_hold_every_example_equally_often_at_any_number(number, fraction, seed):
    labels = np.zeros(number, int)
    rows = plan.rows(25, design="doubly-balanced", fraction=fraction, seed=seed)
    found = np.stack([plan.included(row, labels) for row in rows])
    assert set(found.sum(axis=1)) == {round(fraction * number)}
    so_far = found.cumsum(axis=0)
    assert (so_far.max(axis=1) - so_far.min(axis=1) <= 1).all()


def test_doubly_balanced_subsets_take_every_pair_of_examples_alike():
    """Each row is a random subset: how often two examples are in together is that of draws without replacement."""
    labels = np.zeros(10, int)
    pairs = np.zeros((10, 10))
    for seed in range(300):
        rows = plan.rows(9, design="doubly-balanced", fraction=0.7, seed=seed)
        mask = np.stack([plan.included(row, labels) for row in rows]).astype(float)
        pairs += mask.T @ mask
    together = pairs[np.triu_indices(10, 1)] / 2700
    assert abs(together.mean() - 0.7 * 6 / 9) < 1e-9
    assert together.std() < 2 * np.sqrt(0.25 / 2700)


def test_doubly_balanced_halves_are_complementary():
    found = masks("doubly-balanced", 0.5)
    assert (found[0::2] ^ found[1::2]).all()


@pytest.mark.parametrize("design", ["fixed", "bernoulli", "stratified", "pairs", "balanced", "doubly-balanced"])
def test_rows_of_a_design_are_reproducible_and_differ(design):
    fraction = 0.5
    again = masks(design, fraction)
    assert np.array_equal(masks(design, fraction), again)
    assert len({row.tobytes() for row in again}) == 40
    assert not np.array_equal(again, masks(design, fraction, seed=1))


@pytest.mark.parametrize("design", ["fixed", "bernoulli", "stratified", "pairs", "balanced", "doubly-balanced"])
def test_examples_are_drawn_independently_of_each_other(design):
    """Correlation between two examples' columns is within chance, up to the fixed size."""
    found = masks(design, 0.5, count=400).astype(float)
    correlation = np.corrcoef(found[:, :60].T)[np.triu_indices(60, 1)]
    assert abs(correlation.mean()) < 0.01
    assert 0.8 < correlation.std() * np.sqrt(400) < 1.5  # pairs: half as many independent rows


@given(st.integers(20, 60), st.floats(0.2, 0.8), st.integers(0, 5))
def test_a_subset_is_never_empty_nor_everything(number, fraction, seed):
    mask = plan.included(Subset(0, "fixed", fraction, seed), np.zeros(number, int))
    assert 0 < mask.sum() < number


@pytest.mark.parametrize("design", ["fixed", "bernoulli", "stratified", "balanced", "doubly-balanced"])
def test_a_subset_that_leaves_nothing_out_is_a_clear_error(design):
    def draw_all() -> None:
        for row in plan.rows(20, design=design, fraction=0.9):
            plan.included(row, np.zeros(1, int))

    with pytest.raises(ValueError, match="examples in and out, but .* takes 1 of 1|takes 0 of 1"):
        draw_all()
