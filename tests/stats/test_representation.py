import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import spatial, stats
from scipy.linalg import orthogonal_procrustes
from sklearn.neighbors import NearestNeighbors

from remnant.stats import representation
from remnant.stats.representation import (
    aligned_cosine,
    leading_components,
    linear_cka,
    linear_hsic,
    nearest_neighbours,
    neighbour_overlap,
    procrustes_distance,
)


def noisy(rng, num=60, features=5, noise=0.5, other=None):
    x = rng.normal(size=(num, features))
    return x, x @ rng.normal(size=(features, other or features)) + noise * rng.normal(size=(num, other or features))


def rotation(rng, size):
    return stats.ortho_group.rvs(size, random_state=rng)


def slow_hsic(x, y):
    """Song et al. (2012), the unbiased estimator, with matrices of all pairs of examples."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    one = np.ones(n)
    inner = one @ k @ one * (one @ m @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + inner - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def test_cka_is_that_of_the_authors():
    """Output of representation_similarity/Demo.ipynb of google-research by Kornblith et al., "(Debiased)"."""
    rng = np.random.RandomState(1337)
    x = rng.randn(100, 10)
    y = rng.randn(100, 10) + x
    assert linear_cka(x, y) == pytest.approx(0.51346, abs=5e-6)


@pytest.mark.parametrize("features", [(3, 4), (60, 7), (90, 80)])
def test_hsic_equals_the_published_formula(features):
    rng = np.random.default_rng(1)
    x, y = rng.normal(2, 1, (30, features[0])), rng.normal(-1, 3, (30, features[1]))
    assert linear_hsic(x, y) == pytest.approx(slow_hsic(x, y), rel=1e-9)
    assert linear_hsic(x, x) == pytest.approx(slow_hsic(x, x), rel=1e-9)


def test_blocks_of_examples_change_nothing(monkeypatch):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(50, 90)), rng.normal(size=(50, 70))
    whole, neighbours = linear_cka(x, y), nearest_neighbours(x, 4)
    monkeypatch.setattr(representation, "_VALUES", 170)
    assert linear_cka(x, y) == pytest.approx(whole)
    assert (np.sort(nearest_neighbours(x, 4)) == np.sort(neighbours)).all()


def test_hsic_is_unbiased():
    """Independent representations give 0 in expectation; the squared covariance of dependent ones is met."""
    rng = np.random.default_rng(3)
    independent = [linear_hsic(rng.normal(size=(8, 12)), rng.normal(size=(8, 3))) for _ in range(2000)]
    assert abs(np.mean(independent)) < 3 * np.std(independent) / np.sqrt(2000)
    dependent = []
    for _ in range(2000):
        x = rng.normal(size=(8, 2))
        dependent.append(linear_hsic(x, x + rng.normal(size=x.shape)))
    # The covariance of x and x + noise is the 2 x 2 identity, of squared norm 2.
    assert abs(np.mean(dependent) - 2) < 3 * np.std(dependent) / np.sqrt(2000)


def test_independent_representations_have_no_cka_where_the_biased_form_has():
    rng = np.random.default_rng(4)
    values, biased = [], []
    for _ in range(60):
        x, y = rng.normal(size=(40, 80)), rng.normal(size=(40, 80))
        values.append(linear_cka(x, y))
        a, b = x - x.mean(0), y - y.mean(0)
        biased.append(np.linalg.norm(a.T @ b) ** 2 / np.linalg.norm(a.T @ a) / np.linalg.norm(b.T @ b))
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(60)
    assert np.mean(biased) > 0.6


def test_procrustes_distance_follows_from_the_disparity_of_scipy():
    """SciPy also scales one side: its disparity is 1 - s^2 where ours is 2 - 2 s."""
    x, y = noisy(np.random.default_rng(5))
    disparity = spatial.procrustes(x, y)[2]
    assert procrustes_distance(x, y) == pytest.approx(2 - 2 * np.sqrt(1 - disparity))


def test_procrustes_distance_with_more_features_than_examples():
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(12, 40)), rng.normal(size=(12, 30))
    a, b = x - x.mean(0), y - y.mean(0)
    common = np.linalg.svd(a.T @ b, compute_uv=False).sum() / np.linalg.norm(a) / np.linalg.norm(b)
    assert procrustes_distance(x, y) == pytest.approx(2 - 2 * common)


@given(seed=st.integers(0, 10**6), features=st.integers(1, 6), scale=st.floats(0.01, 100))
def test_rotation_shift_and_scale_change_nothing(seed, features, scale):
    rng = np.random.default_rng(seed)
    x, y = noisy(rng, 40, features + 1)
    moved = scale * y @ rotation(rng, features + 1) + rng.normal(size=features + 1) * 10
    folds = rng.permutation(40) % 4
    assert linear_cka(x, moved) == pytest.approx(linear_cka(x, y), rel=1e-6)
    assert procrustes_distance(x, moved) == pytest.approx(procrustes_distance(x, y), abs=1e-6)
    np.testing.assert_allclose(aligned_cosine(x, moved, folds), aligned_cosine(x, y, folds), atol=1e-6)
    overlap = neighbour_overlap(nearest_neighbours(y, 3), nearest_neighbours(moved, 3))
    assert overlap.mean() > 0.99


@given(seed=st.integers(0, 10**6))
def test_all_measures_are_symmetric_and_bounded(seed):
    rng = np.random.default_rng(seed)
    x, y = noisy(rng, 30, 3, other=5)
    folds = rng.permutation(30) % 3
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x))
    assert procrustes_distance(x, y) == pytest.approx(procrustes_distance(y, x))
    assert 0 <= procrustes_distance(x, y) <= 2
    cosine = aligned_cosine(x, y, folds)
    np.testing.assert_allclose(cosine, aligned_cosine(y, x, folds), atol=1e-8)
    assert (np.abs(cosine) <= 1).all()


def test_a_representation_agrees_with_itself():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(50, 4))
    assert linear_cka(x, x) == pytest.approx(1)
    assert procrustes_distance(x, x) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(aligned_cosine(x, x, np.arange(50) % 5), 1)
    assert (neighbour_overlap(nearest_neighbours(x, 5), nearest_neighbours(x, 5)) == 1).all()


def test_cosine_equals_a_slow_cross_fitted_one():
    rng = np.random.default_rng(8)
    x, y = noisy(rng, 45, 4)
    folds = rng.permutation(45) % 5
    expected = np.empty(45)
    for i in range(45):
        others = folds != folds[i]
        a, b = x - x[others].mean(0), y - y[others].mean(0)
        turn, _ = orthogonal_procrustes(a[others], b[others])
        expected[i] = 1 - spatial.distance.cosine(a[i] @ turn, b[i])
    np.testing.assert_allclose(aligned_cosine(x, y, folds), expected, atol=1e-10)


def test_cosine_of_independent_representations_is_0_where_a_fit_to_all_examples_is_not():
    rng = np.random.default_rng(9)
    crossed, fitted = [], []
    for _ in range(60):
        x, y = rng.normal(size=(40, 30)), rng.normal(size=(40, 30))
        crossed.append(aligned_cosine(x, y, rng.permutation(40) % 5).mean())
        a, b = x - x.mean(0), y - y.mean(0)
        left, _, right = np.linalg.svd(a.T @ b)
        turned = a @ left @ right
        fitted.append(((turned * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean())
    assert abs(np.mean(crossed)) < 3 * np.std(crossed) / np.sqrt(60)
    assert np.mean(fitted) > 0.4


def test_what_other_examples_do_not_have_counts_against_an_example():
    """The last example alone uses the third feature: nothing says where the other representation puts it."""
    rng = np.random.default_rng(10)
    x = np.concatenate([rng.normal(size=(40, 2)), np.zeros((40, 1))], axis=1)
    x[-1] = [0.1, 0.1, 5.0]
    folds = np.arange(40) % 4
    cosine = aligned_cosine(x, x @ rotation(rng, 3), folds)
    assert cosine[-1] < 0.2
    assert np.median(cosine) > 0.95


def test_neighbours_are_those_of_scikit_learn():
    rng = np.random.default_rng(11)
    x, y = rng.normal(100, 1, (80, 6)), rng.normal(size=(80, 6))
    found = [nearest_neighbours(v, 7) for v in (x, y)]
    expected = [NearestNeighbors(n_neighbors=7).fit(v).kneighbors(return_distance=False) for v in (x, y)]
    for ours, theirs in zip(found, expected, strict=True):
        assert (np.sort(ours) == np.sort(theirs)).all()
    shared = [len(set(a) & set(b)) / 7 for a, b in zip(*expected, strict=True)]
    np.testing.assert_allclose(neighbour_overlap(*found), shared)


def test_independent_neighbours_overlap_as_chance_says():
    rng = np.random.default_rng(12)
    shares = [
        neighbour_overlap(*(nearest_neighbours(rng.normal(size=(50, 5)), 7) for _ in range(2))).mean()
        for _ in range(100)
    ]
    assert abs(np.mean(shares) - 7 / 49) < 3 * np.std(shares) / 10


@pytest.mark.parametrize("shape", [(40, 9), (12, 30)])
def test_leading_components_are_those_of_the_singular_values(shape):
    x = np.random.default_rng(13).normal(3, 1, shape)
    found = leading_components(x, 4)
    left, size, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    np.testing.assert_allclose(found @ found.T, (left[:, :4] * size[:4] ** 2) @ left[:, :4].T, atol=1e-9)
    np.testing.assert_allclose(leading_components(x, shape[1]), x - x.mean(0))


def test_no_variation_is_undefined():
    flat, x = np.ones((10, 3)), np.random.default_rng(14).normal(size=(10, 3))
    assert np.isnan(linear_cka(flat, x))
    assert np.isnan(procrustes_distance(flat, x))
    assert np.isnan(aligned_cosine(flat, x, np.arange(10) % 2)).all()


def test_wrong_inputs_are_named():
    x = np.ones((10, 3))
    with pytest.raises(ValueError, match="same examples, but got 10 and 9 examples"):
        linear_cka(x, x[:9])
    with pytest.raises(ValueError, match="at least 4 examples, but got 3"):
        linear_hsic(x[:3], x[:3])
    with pytest.raises(ValueError, match=r"Expected `second` to have the shape \(example, feature\)"):
        procrustes_distance(x, x[0])
    with pytest.raises(ValueError, match="Expected finite features, but 3 in `first` are not"):
        linear_cka(np.where(np.arange(10)[:, None] == 2, np.nan, x), x)
    with pytest.raises(ValueError, match="at least 2 folds for each of 10 examples, but got 10 values of 1 folds"):
        aligned_cosine(x, x, np.zeros(10))
    with pytest.raises(ValueError, match=r"Expected `k` in \[1, 9\] for 10 examples, but got 10"):
        nearest_neighbours(x, 10)
    with pytest.raises(ValueError, match=r"neighbours of one shape \(example, k\)"):
        neighbour_overlap(np.zeros((3, 2), int), np.zeros((3, 1), int))
    with pytest.raises(ValueError, match="Expected `most` >= 1, but got 0"):
        leading_components(x, 0)
