import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from remnant.stats.cost import (
    checked_distance,
    confusion_distance,
    costs,
    gamma_interval,
    hierarchy_distance,
    is_metric,
    severity_by_chance,
    superclass_distance,
    zero_one,
)

TREE = {
    "cat": ["mammal"], "dog": ["mammal"], "frog": ["animal"], "truck": ["vehicle"], "ship": ["vehicle"],
    "mammal": ["animal"], "animal": ["thing"], "vehicle": ["thing"],
}  # fmt: skip
LEAVES = ["cat", "dog", "frog", "truck", "ship"]


def test_cost_is_the_weighted_sum_of_the_paper():
    """Joseph et al. (2020), section II.A, one example at a time; the distance need not be symmetric."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, (2, 50))
    distance, weights = rng.random((4, 4)), rng.random(50)
    np.fill_diagonal(distance, 0)
    slow = sum(mu * distance[b, a] for mu, a, b in zip(weights, first, second, strict=True))
    assert costs(second, first, distance) @ weights == pytest.approx(slow)


@given(arrays.arrays(np.int8, 30, elements=st.integers(0, 4)), arrays.arrays(np.int8, 30, elements=st.integers(0, 4)))
def test_cost_is_0_without_flips_and_their_share_under_zero_one(first, second):
    assert not costs(first, first, zero_one(5)).any()
    assert costs(second, first, zero_one(5)).mean() == pytest.approx(np.mean(first != second))
    assert (costs(second, first, superclass_distance([0, 0, 1, 1, 2])) <= (first != second)).all()


def test_gamma_interval_equals_that_of_fay_and_feuer():
    """Down's syndrome, birth order 5 and later: R's dsrTest 1.0.0 vignette, 75.52901 (67.70212 to 188.30017)."""
    cases = np.array([0, 8, 63, 112, 262, 295])
    births = np.array([327, 30666, 123419, 149919, 104088, 34392])
    standard = np.array([319933, 931318, 786511, 488235, 237863, 61313])
    weights = 1e5 * standard / (births * standard.sum())
    assert weights @ cases == pytest.approx(75.52901, abs=1e-5)
    low, high = gamma_interval(np.repeat(weights, cases), float(weights.max()))
    assert (low, high) == (pytest.approx(67.70212, abs=1e-5), pytest.approx(188.30017, abs=1e-5))


def test_gamma_interval_of_equal_weights_is_the_exact_one_of_poisson():
    """Garwood's interval; none of a kind leaves an upper end of -log(0.025)."""
    assert gamma_interval(np.array([]), 1.0) == (0.0, pytest.approx(-np.log(0.025)))
    low, high = gamma_interval(np.full(10, 0.5), 0.5)
    assert low == pytest.approx(0.5 * stats.chi2.ppf(0.025, 20) / 2)
    assert high == pytest.approx(0.5 * stats.chi2.ppf(0.975, 22) / 2)


def test_gamma_interval_covers():
    rng = np.random.default_rng(0)
    shares, weights = np.array([0.004, 0.01, 0.003]), np.array([0.2, 0.5, 1.0])
    covered = 0
    for _ in range(500):
        events = np.repeat(weights, rng.binomial(500, shares))
        low, high = gamma_interval(events, 1.0)
        covered += low <= 500 * shares @ weights <= high
    assert covered / 500 >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 500)


def test_hierarchy_by_hand():
    """Heights: mammal 1, vehicle 1, animal 2, thing 3."""
    found = 3 * hierarchy_distance(TREE, LEAVES)
    expected = [[0, 1, 2, 3, 3], [1, 0, 2, 3, 3], [2, 2, 0, 3, 3], [3, 3, 3, 0, 1], [3, 3, 3, 1, 0]]
    np.testing.assert_allclose(found, expected)
    assert is_metric(found)


def test_hierarchy_equals_a_slow_version_with_several_parents():
    rng = np.random.default_rng(1)
    parents = {f"leaf{k}": [f"low{j}" for j in rng.choice(5, 2, replace=False)] for k in range(8)}
    parents |= {f"low{k}": [f"high{j}" for j in rng.choice(3, rng.integers(1, 3), replace=False)] for k in range(5)}
    parents |= {f"high{k}": ["root"] for k in range(2)}
    parents["leaf0"] = [*parents["leaf0"], "root"]
    leaves = [f"leaf{k}" for k in range(8)]

    def ancestors(node):
        return {node}.union(*(ancestors(parent) for parent in parents.get(node, [])))

    def height(node):
        below = [child for child, above in parents.items() if node in above]
        return 1 + max(map(height, below)) if below else 0

    top = max(height(node) for leaf in leaves for node in ancestors(leaf))
    slow = np.ones((8, 8))
    for i, a in enumerate(leaves):
        for j, b in enumerate(leaves):
            shared = ancestors(a) & ancestors(b)
            if shared:
                slow[i, j] = 0 if i == j else min(height(node) for node in shared) / top
    np.testing.assert_allclose(hierarchy_distance(parents, leaves), slow)


def test_two_levels_are_superclasses():
    parents = {"a": ["x"], "b": ["x"], "c": ["y"], "x": ["all"], "y": ["all"]}
    np.testing.assert_array_equal(hierarchy_distance(parents, "abc"), superclass_distance([0, 0, 1]))


def test_classes_without_a_common_ancestor_are_farthest():
    assert hierarchy_distance({"a": ["x"], "b": ["y"]}, ["a", "b"]).tolist() == [[0, 1], [1, 0]]


def test_bad_hierarchies_are_refused():
    with pytest.raises(ValueError, match=r"1 are not, such as \['cow'\]"):
        hierarchy_distance(TREE, ["cat", "cow"])
    with pytest.raises(ValueError, match=r"\['animal'\] are above other classes"):
        hierarchy_distance(TREE, ["cat", "animal"])
    with pytest.raises(ValueError, match="without cycles"):
        hierarchy_distance({"a": ["b"], "b": ["a"], "c": ["b"]}, ["c"])


def test_distance_from_confusion_by_hand():
    """Classes 0 and 1: 80 % and 70 % right, 20 % and 10 % for the other: e = 0.3 / 1.8. Class 2 is never mixed."""
    found = confusion_distance([[8, 2, 0], [1, 7, 2], [0, 0, 10]])
    assert found[0, 1] == pytest.approx(1 - 2 * 0.3 / 1.8)
    assert found[0, 2] == 1
    assert found[1, 2] == pytest.approx(1 - 2 * 0.2 / 1.9)
    np.testing.assert_array_equal(found, found.T)
    assert confusion_distance([[5, 5], [5, 5]]).max() == 0
    assert confusion_distance([[0, 9], [9, 0]]).max() == 0
    # A class without examples was never taken for another one.
    assert confusion_distance([[3, 0], [0, 0]])[0, 1] == 1


def test_severity_by_chance_equals_a_slow_version():
    rng = np.random.default_rng(2)
    first = rng.integers(0, 5, 40)
    second = (first + rng.integers(1, 5, 40)) % 5
    distance = rng.random((5, 5))
    found = [distance[b, a] for a in first for b in second if a != b]
    assert severity_by_chance(second, first, distance) == pytest.approx(np.mean(found))
    assert np.isnan(severity_by_chance(first[:0], first[:0], distance))


def test_what_a_metric_is():
    assert is_metric(zero_one(4))
    assert not is_metric(np.array([[0, 1], [2, 0]]))
    assert not is_metric(np.array([[0, 1, 5], [1, 0, 1], [5, 1, 0]]))
    assert not is_metric(np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("distance", "message"),
    [
        (np.zeros((2, 3)), r"of shape \(3, 3\), but got \(2, 3\)"),
        (-zero_one(3), "finite distances >= 0"),
        (np.full((3, 3), np.nan), "finite distances >= 0"),
        (np.ones((3, 3)), "class 0 has another"),
        (np.zeros((3, 3)), "all are 0"),
    ],
)
def test_what_is_no_distance_is_refused(distance, message):
    with pytest.raises(ValueError, match=message):
        checked_distance(distance, 3)
