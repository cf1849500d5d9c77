"""Whether a positive quantity of each example, such as a distance, is kept between two models."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri


def log_ratios(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """ln(second / first) of each example: 0 where nothing changed, > 0 where the second is larger.

    Raises
    ------
    ValueError
        If a value is not positive and finite, or the shapes differ.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape:
        raise ValueError(f"Expected `first` and `second` of one shape, but got {a.shape} and {b.shape}.")
    for name, values in (("first", a), ("second", b)):
        wrong = ~((values > 0) & np.isfinite(values))
        if wrong.any():
            raise ValueError(
                f"Expected `{name}` to be positive and finite, but {wrong.sum()} values are not, such as "
                f"{float(values[wrong][0])!r}."
            )
    return np.log(b) - np.log(a)


def is_preserved(log_ratio: ArrayLike, factor: float) -> NDArray[np.bool_]:
    """Where a quantity changed by at most a factor: 1 / factor <= ratio <= factor, ends included.

    Raises
    ------
    ValueError
        If `factor` is below 1.
    """
    if not factor >= 1:
        raise ValueError(f"Expected `factor` >= 1, but got {factor!r}.")
    # Ends are included whatever their logarithms were rounded to.
    return np.abs(np.asarray(log_ratio, float)) <= np.log(factor) + 1e-12


def typical_factor(log_ratio: ArrayLike) -> float:
    """exp(median |ln ratio|): half of the examples change by at most this factor; 1 if half of them do not change.

    NaN without examples.
    """
    values = np.abs(np.asarray(log_ratio, float))
    return float(np.exp(np.median(values))) if values.size else float("nan")


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Rank correlation: Pearson's of the ranks, equal values with their mean rank; in [-1, 1].

    NaN for fewer than 2 examples, and where one side does not vary.

    References
    ----------
    spearman1904proof
    """
    from scipy.stats import rankdata  # takes long to import

    a, b = (rankdata(np.asarray(side, float)) for side in (first, second))
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))


def spearman_interval(correlation: float, num: int, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of a rank correlation over independent examples: atanh(r) ± z sqrt((1 + r² / 2) / (n - 3)).

    NaN for fewer than 4 examples; of width 0 at -1 and 1.

    References
    ----------
    bonett2000sample, equation 5
    """
    if num < 4 or np.isnan(correlation):
        return float("nan"), float("nan")
    if abs(correlation) == 1:
        return correlation, correlation
    reach = float(ndtri(0.5 + level / 2)) * np.sqrt((1 + correlation**2 / 2) / (num - 3))
    centre = np.arctanh(correlation)
    return float(np.tanh(centre - reach)), float(np.tanh(centre + reach))
