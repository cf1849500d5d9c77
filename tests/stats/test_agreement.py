import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn.metrics import top_k_accuracy_score

from remnant.stats.agreement import (
    class_probability,
    disagreement,
    in_top_k,
    kl_divergence,
    log_partition,
    log_softmax,
    mean_kl_divergences,
    mismatches,
    prediction_distances,
    same_seed_p,
    top_class,
)
from remnant.stats.resampling import permutation_p, relabelings, swaps

CLASSES = st.lists(st.integers(0, 3), min_size=12, max_size=12)


def test_mismatches_by_hand():
    reference, compressed, label = [0, 0, 1, 1, 2], [0, 1, 0, 2, 0], [0, 0, 0, 0, 1]
    found = {kind: flags.tolist() for kind, flags in mismatches(reference, compressed, label).items()}
    assert found == {
        "cie": [False, True, True, True, True],
        "cie_u": [False, True, False, False, False],
        "cie_c": [False, False, True, False, False],
        "cie_w": [False, False, False, True, True],
    }


@settings(deadline=None, max_examples=40)
@given(CLASSES, CLASSES, CLASSES)
def test_mismatches_are_a_union_and_mirror(reference, compressed, label):
    found = mismatches(reference, compressed, label)
    kinds = np.stack([found["cie_u"], found["cie_c"], found["cie_w"]])
    assert (kinds.sum(axis=0) == found["cie"]).all()
    assert mismatches(reference, compressed).keys() == {"cie"}
    assert (mismatches(reference, compressed)["cie"] == found["cie"]).all()
    back = mismatches(compressed, reference, label)
    assert (back["cie_u"] == found["cie_c"]).all()
    assert (back["cie_w"] == found["cie_w"]).all()
    assert not mismatches(reference, reference, label)["cie"].any()
    # Net change is the difference of the accuracies.
    net = found["cie_c"].mean() - found["cie_u"].mean()
    assert net == pytest.approx(np.equal(compressed, label).mean() - np.equal(reference, label).mean())


def test_disagreement_equals_loops():
    rng = np.random.default_rng(0)
    for classes in (4, 1000):
        a, b = rng.integers(0, classes, (3, 50)), rng.integers(0, classes, (4, 50))
        slow = [[(x != y).mean() for y in b] for x in a]
        np.testing.assert_allclose(disagreement(a, b), slow)


def test_kl_divergence_equals_that_of_scipy():
    rng = np.random.default_rng(1)
    p, q = rng.normal(size=(2, 6, 5)), 3 * rng.normal(size=(2, 6, 5))
    softmax = [np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True) for x in (p, q)]
    expected = np.asarray(stats.entropy(softmax[0], softmax[1], axis=-1))
    np.testing.assert_allclose(kl_divergence(p, q), expected)
    np.testing.assert_allclose(kl_divergence(p + 7, q - 100), expected)
    assert (kl_divergence(p, p) == 0).all()
    extreme = kl_divergence(np.array([1e4, 0.0]), np.array([0.0, 1e4]))
    assert extreme == pytest.approx(1e4)
    together = mean_kl_divergences(log_softmax(np.stack([p[0], q[0]])))
    np.testing.assert_allclose(together[0, 1], expected[0].mean())
    np.testing.assert_allclose(np.diag(together), 0)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("num_classes", [2, 9, 31, 40, 300])
def test_blocks_equal_a_slow_version(kind, num_classes, monkeypatch):
    """Blocks of a few rows, of either layout, against whole arrays in double precision."""
    monkeypatch.setattr("remnant.stats.agreement._VALUES", 5 * num_classes + 1)
    rng = np.random.default_rng(num_classes)
    a, b = (rng.normal(0, 4, (2, 23, num_classes)).astype(kind) for _ in range(2))
    a[0, 0], b[0, 0] = 0, 0
    a[0, 1, :2] = b[0, 1, :2] = -1e4
    p, q = (special.log_softmax(x.astype(np.float64), axis=-1) for x in (a, b))
    np.testing.assert_allclose(kl_divergence(a, b), (np.exp(p) * (p - q)).sum(axis=-1), atol=1e-9, rtol=1e-9)
    np.testing.assert_array_equal(top_class(a), a.argmax(axis=-1))
    rows, classes = rng.integers(0, 23, 17), rng.integers(0, num_classes, 17)
    np.testing.assert_allclose(class_probability(a[1], rows, classes), np.exp(p[1, rows, classes]), atol=1e-12)
    slots = rng.integers(0, num_classes, (17, 3))
    expected = np.exp(np.take_along_axis(p[1, rows], slots, axis=1))
    np.testing.assert_allclose(class_probability(a[1], rows, slots), expected, atol=1e-12)


@pytest.mark.parametrize("num_classes", [3, 50])
def test_known_log_partitions_change_nothing(num_classes, monkeypatch):
    monkeypatch.setattr("remnant.stats.agreement._VALUES", 5 * num_classes + 1)
    rng = np.random.default_rng(num_classes)
    a, b = (rng.normal(0, 4, (2, 23, num_classes)).astype(np.float16) for _ in range(2))
    known = log_partition(a), log_partition(b)
    np.testing.assert_allclose(known[0], special.logsumexp(a.astype(np.float64), axis=-1), rtol=1e-14)
    np.testing.assert_allclose(
        log_partition(a + np.float16(1000)) - 1000,
        special.logsumexp((a + np.float16(1000)).astype(np.float64) - 1000, axis=-1),
        atol=1e-11,
    )
    np.testing.assert_allclose(kl_divergence(a, b, known), kl_divergence(a, b), atol=1e-12)
    assert (kl_divergence(a, a, (known[0], known[0])) == 0).all()
    np.testing.assert_allclose(
        kl_divergence(a[0, 4], b[0, 4], (known[0][0, 4], known[1][0, 4])), kl_divergence(a, b)[0, 4]
    )
    np.testing.assert_allclose(log_softmax(a, known[0]), log_softmax(a), atol=1e-12)
    rows, slots = rng.integers(0, 23, 17), rng.integers(0, num_classes, (17, 3))
    for classes in (slots, slots[:, 0]):
        expected = class_probability(a[1], rows, classes)
        np.testing.assert_allclose(class_probability(a[1], rows, classes, known[0][1]), expected, rtol=1e-12)


def test_log_partitions_of_logits_that_are_not_finite_are_not_numbers():
    for kind in (np.float16, np.float64):
        x = np.zeros((5, 40), kind)
        x[0, 3], x[1, 0], x[2, 39] = np.inf, -np.inf, np.nan
        assert np.isnan(log_partition(x)).tolist() == [True, True, True, False, False]
        assert log_partition(x)[4] == pytest.approx(np.log(40))


def test_every_number_of_half_precision_is_read_exactly():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    expected = every.astype(np.float64)
    finite = np.isfinite(expected)
    # Sums of one class are the logits themselves.
    np.testing.assert_array_equal(log_partition(every[finite, None]), expected[finite])
    pairs = np.stack([every[finite], every[finite][::-1]], axis=1)
    np.testing.assert_array_equal(top_class(pairs), pairs.astype(np.float64).argmax(axis=1))
    assert top_class(np.array([[1, np.inf, 2], [-np.inf, -5, -6]], np.float16)).tolist() == [1, 1]


@pytest.mark.parametrize("bits", [0x7C00, 0xFC00, 0x7E00, 0xFE00, 0x7FFF, 0xFFFF])
@pytest.mark.parametrize("other", [-2.0, 3.0])
def test_one_number_of_half_precision_that_is_not_finite_is_seen(bits, other):
    """Infinite and NaN of either sign, with other numbers of one sign only."""
    x = np.full((1, 5), other, np.float16)
    x[0, 2] = np.array(bits, np.uint16).view(np.float16)
    assert np.isnan(log_partition(x)).all()
    if np.isinf(x[0, 2]):
        assert top_class(x).item() == x.astype(np.float64).argmax()


def test_top_class_has_the_smallest_type_that_holds_every_class():
    for num_classes, kind in ((2, np.int8), (128, np.int8), (129, np.int16), (40_000, np.int32)):
        last = np.zeros((3, num_classes), np.float16)
        last[:, -1] = 1
        found = top_class(last)
        assert found.dtype == kind
        assert (found == num_classes - 1).all()
    assert top_class(np.zeros((2, 3))).tolist() == [0, 0]


def test_top_k_equals_that_of_scikit_learn():
    rng = np.random.default_rng(2)
    logits, label = rng.normal(size=(300, 6)), rng.integers(0, 6, 300)
    for k in (1, 3):
        expected = top_k_accuracy_score(label, logits, k=k, labels=range(6))
        assert in_top_k(logits, label, k).mean() == pytest.approx(expected)
    assert in_top_k(logits, label, 6).all()


def test_first_class_wins_among_equal_logits():
    logits = np.zeros((3, 4))
    assert in_top_k(logits, np.array([0, 1, 3]), 2).tolist() == [True, True, False]
    rounded = np.random.default_rng(3).integers(0, 2, (200, 5)).astype(float)
    label = np.arange(200) % 5
    assert (in_top_k(rounded, label, 1) == (rounded.argmax(axis=1) == label)).all()


def test_top_k_outside_the_classes_is_refused():
    with pytest.raises(ValueError, match=r"Expected `k` in \[1, 3\], but got 4"):
        in_top_k(np.zeros((2, 3)), np.zeros(2, int), 4)


def test_prediction_distance_equals_squared_difference_of_frequencies():
    """Without excluding the trials themselves, twice between minus within is the squared Euclidean distance."""
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 3, (5, 40)), rng.integers(0, 3, (6, 40))
    pooled = np.concatenate([a, b])
    between = disagreement(pooled, pooled)
    found = prediction_distances(between, (np.arange(11) < 5)[None])[0]
    slow = 2 * between[:5, 5:].mean()
    slow -= between[:5, :5].sum() / 20 + between[5:, 5:].sum() / 30
    assert found == pytest.approx(slow)
    frequencies = [np.stack([(x == c).mean(axis=0) for c in range(3)]) for x in (a, b)]
    biased = ((frequencies[0] - frequencies[1]) ** 2).sum(axis=0).mean()
    assert 2 * between[:5, 5:].mean() - between[:5, :5].mean() - between[5:, 5:].mean() == pytest.approx(biased)


def test_prediction_distance_of_pairs_leaves_out_the_pairs():
    rng = np.random.default_rng(5)
    a = rng.integers(0, 3, (4, 60))
    b = np.where(rng.random(a.shape) < 0.1, rng.integers(0, 3, a.shape), a)
    pooled = np.concatenate([a, b])
    between = disagreement(pooled, pooled)
    ways = swaps(4, 16, rng).in_first
    found = prediction_distances(between, ways, paired=True)
    for row, in_first in zip(found, ways, strict=True):
        one, two = pooled[np.where(in_first[:4], np.arange(4), np.arange(4) + 4)], None
        two = pooled[np.where(in_first[:4], np.arange(4) + 4, np.arange(4))]
        across, inside = disagreement(one, two), [disagreement(x, x).sum() / 12 for x in (one, two)]
        assert row == pytest.approx(2 * (across.sum() - np.trace(across)) / 12 - sum(inside))


def test_prediction_distance_is_unbiased_and_its_p_uniform_under_the_null():
    rng = np.random.default_rng(6)
    likely = rng.dirichlet(np.full(3, 0.5), 60)
    distances, p = [], []
    for _ in range(400):
        pooled = (rng.random((12, 60, 1)) > likely.cumsum(axis=1)).sum(axis=2)
        between = disagreement(pooled, pooled)
        ways = relabelings(6, 6, 199, rng)
        found = prediction_distances(between, (np.arange(12) < 6)[None])[0]
        distances.append(found)
        p.append(permutation_p(found, prediction_distances(between, ways.in_first), exact=ways.exact))
    assert np.mean(distances) == pytest.approx(0, abs=3 * float(np.std(distances)) / 20)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_same_seeds_are_told_from_other_seeds():
    rng = np.random.default_rng(7)
    a = rng.integers(0, 3, (8, 100))
    alike = np.where(rng.random(a.shape) < 0.3, rng.integers(0, 3, a.shape), a)
    assert same_seed_p(disagreement(a, alike), 999, rng) <= 0.002
    p = [same_seed_p(disagreement(*rng.integers(0, 3, (2, 8, 100))), 99, rng) for _ in range(400)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert same_seed_p(np.full((4, 4), 0.2), 99, rng) == 1
