"""Two populations of trials: Welch's t, Hedges' g, Fisher's exact test; vectorised over classes or examples."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from remnant.stats.paired import studentized


def welch(first: ArrayLike, second: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    """Welch's t of mean(first) - mean(second) over trials (first axis), degrees of freedom, two-sided p.

    Without any spread in both samples the test has no scale: then p = 1 if the means are equal and
    0 if not.

    Raises
    ------
    ValueError
        If a sample has fewer than 2 trials.

    References
    ----------
    welch1947generalization; hooker2019what, section 2.2
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if len(a) < 2 or len(b) < 2:
        raise ValueError(f"Expected at least 2 trials in each sample, but got {len(a)} and {len(b)}.")
    scale = np.abs(a).max(axis=0) + np.abs(b).max(axis=0)
    variances = a.var(axis=0, ddof=1), b.var(axis=0, ddof=1)
    return welch_from_moments(a.mean(axis=0) - b.mean(axis=0), *variances, len(a), len(b), scale=scale)


def welch_from_moments(
    difference: NDArray,
    variance_first: NDArray,
    variance_second: NDArray,
    n_first: int,
    n_second: int,
    *,
    scale: NDArray | float = 1.0,
) -> tuple[NDArray, NDArray, NDArray]:
    """As `welch`, from the difference of the means and the unbiased variances."""
    one, two = variance_first / n_first, variance_second / n_second
    t, df = studentized(difference, one + two, scale), _degrees(one, two, n_first, n_second)
    return t, df, 2 * special.stdtr(df, -np.abs(t))


def permuted_welch(
    first: ArrayLike, second: ArrayLike, in_first: NDArray[np.bool_], *, level: float = 0.05
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Welch's t of every rearrangement of the pooled trials, and whether p <= `level`; of shape (permutation, ...).

    Parameters
    ----------
    first, second
        Shape (trial, ...).
    in_first
        Shape (permutation, trial of first, then of second): which trials take the first's place; see
        `remnant.stats.resampling.relabelings` and `swaps`.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    pooled = np.concatenate([a, b])
    # Sums of squares about the pooled mean do not cancel.
    pooled = (pooled - pooled.mean(axis=0)).reshape(len(pooled), -1)
    n1, n2 = len(a), len(b)
    weights = in_first.astype(float)
    sum1, square1 = weights @ pooled, weights @ pooled**2
    sum2, square2 = pooled.sum(axis=0) - sum1, (pooled**2).sum(axis=0) - square1
    variance1 = np.maximum(square1 - sum1**2 / n1, 0) / (n1 - 1)
    variance2 = np.maximum(square2 - sum2**2 / n2, 0) / (n2 - 1)
    scale = np.abs(np.concatenate([a, b]).reshape(len(pooled), -1)).max(axis=0)
    one, two = variance1 / n1, variance2 / n2
    t = studentized(sum1 / n1 - sum2 / n2, one + two, scale)
    # The tails of t are heavier than those of a normal distribution, and take most of the time where all are computed.
    significant = np.abs(t) >= special.ndtri(1 - level / 2)
    degrees = _degrees(one[significant], two[significant], n1, n2)
    significant[significant] = 2 * special.stdtr(degrees, -np.abs(t[significant])) <= level
    shape = (len(in_first), *a.shape[1:])
    return t.reshape(shape), significant.reshape(shape)


def hedges_g(first: ArrayLike, second: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    """Difference of the means in standard deviations between trials, with a 95 % interval: g, low, high.

    g = J(df) (mean(first) - mean(second)) / s, with the pooled s, df = n1 + n2 - 2 and Hedges' exact
    correction J, so that g is unbiased. 0 = no difference. The interval inverts the noncentral t
    distribution of the independent two-sample t, by adding the squared half widths of its normal and its
    chi part (within 0.4 % of the nominal tail at 2 degrees of freedom, 0.1 % from 4 on). NaN where both
    samples have no spread.

    References
    ----------
    hedges1981distribution; cumming2001primer
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    n1, n2 = len(a), len(b)
    df = n1 + n2 - 2
    if n1 < 2 or n2 < 2:
        raise ValueError(f"Expected at least 2 trials in each sample, but got {n1} and {n2}.")
    pooled = np.sqrt(((n1 - 1) * a.var(axis=0, ddof=1) + (n2 - 1) * b.var(axis=0, ddof=1)) / df)
    d = _standardized(a.mean(axis=0) - b.mean(axis=0), pooled, np.abs(a).max(axis=0))
    root = np.sqrt(1 / n1 + 1 / n2)
    low, high = _noncentrality(d / root, df)
    return small_sample_correction(df) * d, low * root, high * root


def hedges_g_paired(first: ArrayLike, second: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    """As `hedges_g` for pairs of trials: g in standard deviations between trials, low, high.

    The scale is the same (the root of the mean variance of both sides), so that g can be compared
    with the unpaired one; the interval knows that pairs are alike. NaN where neither side has spread,
    and with 2 pairs, which are too few.

    References
    ----------
    bonett2008confidence, the interval for two paired means with equal weights
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    n = len(a)
    if a.shape != b.shape or n < 2:
        raise ValueError(f"Expected at least 2 pairs of the same shape, but got {a.shape} and {b.shape}.")
    one, two, apart = a.var(axis=0, ddof=1), b.var(axis=0, ddof=1), (a - b).var(axis=0, ddof=1)
    mean = (one + two) / 2
    d = _standardized(a.mean(axis=0) - b.mean(axis=0), np.sqrt(mean), np.abs(a).max(axis=0))
    mean = np.where(np.isnan(d), np.nan, mean)
    covariance = (one + two - apart) / 2
    variance = d**2 * (one**2 + two**2 + 2 * covariance**2) / (8 * (n - 1) * mean**2) + apart / ((n - 1) * mean)
    # Degrees of freedom of the pooled spread: 2 (n - 1) for unrelated sides, n - 1 for equal ones.
    alike = covariance**2 / np.where(one * two > 0, one * two, np.nan)
    df = 2 * (n - 1) / (1 + np.clip(np.nan_to_num(alike), 0, 1))
    g = small_sample_correction(df) * d
    half = special.stdtrit(df, 0.975) * np.sqrt(variance)
    return g, g - half, g + half


def small_sample_correction(df: ArrayLike) -> NDArray[np.float64]:
    """Hedges' factor J(df) that takes the bias out of a standardized difference; below 1, towards 1.

    NaN up to 1 degree of freedom, where the estimate has no mean.

    References
    ----------
    hedges1981distribution, equation 6e
    """
    df = np.asarray(df, float)
    above = np.maximum(df, 1 + 1e-9)
    factor = np.exp(special.gammaln(above / 2) - special.gammaln((above - 1) / 2)) / np.sqrt(above / 2)
    return np.where(df > 1, factor, np.nan)


def fisher_exact(first: ArrayLike, n_first: int, second: ArrayLike, n_second: int) -> tuple[NDArray, NDArray]:
    """Two-sided p of Fisher's exact test for each example, and the smallest p that its total allows.

    p sums the hypergeometric probabilities that are not above the observed one. Work grows with
    the number of trials, not with the number of examples.

    Parameters
    ----------
    first, second
        Shape (example,): number of trials of each population that count.
    n_first, n_second
        Numbers of trials.

    References
    ----------
    fisher1935design
    """
    x, total = np.asarray(first, np.int64), np.asarray(first, np.int64) + np.asarray(second, np.int64)
    p, smallest = np.ones(x.shape), np.ones(x.shape)
    for count in np.unique(total):
        support = np.arange(max(0, count - n_second), min(n_first, count) + 1)
        ways = _log_choose(n_first, support) + _log_choose(n_second, count - support)
        mass = np.exp(ways - _log_choose(n_first + n_second, count))
        tails = np.array([mass[mass <= m * (1 + 1e-7)].sum() for m in mass])
        here = total == count
        p[here] = np.minimum(tails[x[here] - support[0]], 1)
        smallest[here] = min(tails.min(), 1)
    return p, smallest


def _degrees(one: NDArray, two: NDArray, n_first: int, n_second: int) -> NDArray[np.float64]:
    """Welch's degrees of freedom, from the squared standard errors of both means."""
    bottom = one**2 / (n_first - 1) + two**2 / (n_second - 1)
    smallest = float(min(n_first, n_second) - 1)
    return np.divide((one + two) ** 2, bottom, out=np.full(np.shape(bottom), smallest), where=bottom > 0)


def _log_choose(n: int, k: ArrayLike) -> NDArray[np.float64]:
    """Logarithm of the number of ways to choose k of n."""
    k = np.asarray(k, float)
    return special.gammaln(n + 1) - (special.gammaln(k + 1) + special.gammaln(n - k + 1))


def _standardized(difference: NDArray, spread: NDArray, scale: NDArray) -> NDArray:
    flat = spread <= 64 * np.finfo(float).eps * scale
    return np.divide(difference, spread, out=np.full(np.shape(difference), np.nan), where=~flat)


def _noncentrality(t: NDArray, df: int) -> tuple[NDArray, NDArray]:
    """95 % limits of the noncentrality: quantiles of t sqrt(chi2/df) - Z."""
    z = special.ndtri(0.975)
    below, middle, above = np.sqrt(2 * special.gammaincinv(df / 2, [0.025, 0.5, 0.975]) / df)
    size = np.abs(t)
    low = size * middle - np.sqrt((size * (middle - below)) ** 2 + z**2)
    high = size * middle + np.sqrt((size * (above - middle)) ** 2 + z**2)
    return np.where(t < 0, -high, low), np.where(t < 0, -low, high)
