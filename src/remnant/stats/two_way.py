"""The mean of a table of pairs of models by examples, when both are samples: other seeds, other examples."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special


@dataclass(frozen=True)
class TwoWay:
    """Means of several tables with what their error is made of; all of shape (table,)."""

    estimate: NDArray[np.float64]
    variance: NDArray[np.float64]
    """Of the estimate, over other pairs and other examples. 0 where all values are the same."""
    degrees: NDArray[np.float64]
    """Degrees of freedom of the variance; NaN where it is 0."""

    def interval(self, *, level: float = 0.95) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Student's interval of each mean; of width 0 where all values are the same."""
        quantile = np.where(np.isnan(self.degrees), 0.0, special.stdtrit(self.degrees, 0.5 + level / 2))
        half = quantile * np.sqrt(self.variance)
        return self.estimate - half, self.estimate + half

    def below_p(self, bound: float) -> NDArray[np.float64]:
        """p of the hypothesis that the mean is at least `bound`: one-sided t test, NaN where the variance is 0."""
        error = np.sqrt(self.variance)
        t = np.divide(self.estimate - bound, error, out=np.full(error.shape, np.nan), where=error > 0)
        return special.stdtr(self.degrees, t)

    def two_sided_p(self) -> NDArray[np.float64]:
        """p of the hypothesis that the mean is 0; NaN where the variance is 0."""
        below = self.below_p(0.0)
        return 2 * np.minimum(below, 1 - below)


def two_way_mean(totals: ArrayLike, squares: ArrayLike, example_squares: ArrayLike, sizes: ArrayLike) -> TwoWay:
    """Mean of values d(pair, example) of each table, with the error over both pairs and examples.

    variance = variance over pairs / pairs + variance over examples / examples - variance over cells / cells, and at
    least either of the first two. The last term takes off what the first two count twice. Degrees of freedom are
    Satterthwaite's.

    Parameters
    ----------
    totals
        Shape (pair, table): sum of d over the examples of a table.
    squares, example_squares
        Shape (table,): sum of d^2 over pairs and examples; sum over examples of (sum of d over pairs)^2.
    sizes
        Shape (table,): number of examples, at least 2.

    Raises
    ------
    ValueError
        If there are fewer than 2 pairs, or a table with fewer than 2 examples.

    References
    ----------
    cameron2011robust; satterthwaite1946approximate
    """
    sums, n = np.asarray(totals, float), np.asarray(sizes, float)
    num = len(sums)
    if num < 2 or np.any(n < 2):
        raise ValueError(f"Expected at least 2 pairs and 2 examples, but got {num} and {n.min(initial=np.inf):g}.")
    means = sums / n
    estimate = means.mean(axis=0)
    over_pairs = means.var(axis=0, ddof=1) / num
    over_examples = _mean_variance(np.asarray(example_squares, float) / num**2, estimate, n)
    over_cells = _mean_variance(np.asarray(squares, float), estimate, n * num)
    variance = np.maximum(over_pairs + over_examples - over_cells, np.maximum(over_pairs, over_examples))
    noise = over_pairs**2 / (num - 1) + (variance - over_pairs) ** 2 / (n - 1)
    degrees = np.divide(variance**2, noise, out=np.full(variance.shape, np.nan), where=noise > 0)
    return TwoWay(estimate, variance, degrees)


def _mean_variance(squares: NDArray, mean: NDArray, n: NDArray) -> NDArray[np.float64]:
    """Variance of a mean of n values from the sum of their squares."""
    return np.maximum(squares - n * mean**2, 0) / (n * (n - 1))
