"""Which factors go together with an outcome: logistic regression with odds ratios, and how well it predicts.

Outcomes are numbers of successes of each example among its trials (1 trial for a yes or no). Many outcomes on the same
factors are fitted at once, as permutations of the outcome need it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from remnant.stats import long_tail

Real = NDArray[np.float64]

_ITERATIONS = 100
_DEPENDENT = 1e-6
"""A column of length 1 that lies nearer to the others follows from them."""
_CLOSE = 1e-9
_CLOSE_ENOUGH = 1e-4
"""For predictions, whose ranks matter."""
_LARGEST_STEP = 5.0
"""Of a coefficient in one iteration, as in Heinze & Schemper's programs."""
_VALUES = 2**22
"""Numbers of a block of products: 32 MiB."""
_AT_A_TIME = 2**16
"""Outcomes times rows that are fitted at a time: their chances stay in the cache."""


@dataclass(frozen=True)
class Fit:
    """Logistic regressions of several outcomes on the same columns."""

    coefficients: Real
    """Shape (outcome, column): change of the log odds by one unit of the column."""
    information: Real
    """Shape (outcome, column, column), at the coefficients."""
    converged: NDArray[np.bool_]
    """Shape (outcome,)."""


@dataclass(frozen=True)
class OddsRatios:
    """Odds ratios with 95 % intervals and Wald tests, shape (column,)."""

    estimate: Real
    low: Real
    high: Real
    z: Real
    p: Real


def logistic(design: Real, successes: NDArray, trials: NDArray, *, firth: bool = True, close: float = _CLOSE) -> Fit:
    """Logistic regressions by penalized maximum likelihood.

    log odds = design @ coefficients. With `firth`, half the logarithm of the determinant of the information is added
    to the log-likelihood (Jeffreys' prior): coefficients are finite also where a column separates the outcomes, and
    less biased. Without, plain maximum likelihood.

    Parameters
    ----------
    design
        Shape (row, column), with a column of ones for the intercept.
    successes, trials
        Shape (outcome, row), numbers >= 0 with successes <= trials.
    close
        Coefficients that change by less in a step are final.

    Raises
    ------
    ValueError
        If shapes or numbers do not fit, or columns are linearly dependent.

    References
    ----------
    firth1993bias; heinze2002solution
    """
    design = np.asarray(design, np.float64)
    y, m = np.atleast_2d(np.asarray(successes, np.float64)), np.atleast_2d(np.asarray(trials, np.float64))
    _check(design, y, m)
    products = _Products.of(design)
    size = max(1, _AT_A_TIME // len(design))
    parts = [slice(start, start + size) for start in range(0, len(y), size)]
    each = ((np.ascontiguousarray(y[part]), np.ascontiguousarray(m[part])) for part in parts)
    found = [_newton(design, products, some, of, firth=firth, close=close) for some, of in each]
    return Fit(*(np.concatenate([getattr(fit, name) for fit in found]) for name in Fit.__dataclass_fields__))


def _newton(design: Real, products: "_Products", y: Real, m: Real, *, firth: bool, close: float) -> Fit:
    """Coefficients of some outcomes by Newton's method, with shorter steps where these are too long."""
    beta, active = _start(design, y, m), np.ones(len(y), bool)
    before, share = np.zeros(beta.shape), np.ones(len(y))
    chance = _chance(design, beta)
    weight = m * chance * (1 - chance)
    information = products.weighted_sum(weight)
    for _ in range(_ITERATIONS):
        here = np.flatnonzero(active)
        off = y[here] - m[here] * chance
        if firth:
            off += weight * products.quadratic_forms(np.linalg.inv(information[here])) * (0.5 - chance)
        step = np.linalg.solve(information[here], (off @ design)[:, :, None])[:, :, 0]
        longest = np.abs(step).max(axis=1)
        share[here] = np.minimum(_share(step, before[here], share[here]), _LARGEST_STEP / np.maximum(longest, 1e-300))
        before[here] = step
        beta[here] += share[here, None] * step
        chance = _chance(design, beta[here])
        weight = m[here] * chance * (1 - chance)
        information[here] = products.weighted_sum(weight)
        going = longest > close
        active[here], chance, weight = going, chance[going], weight[going]
        if not going.any():
            break
    return Fit(beta, information, ~active)


def odds_ratios(fit: Fit, design: Real, successes: NDArray, trials: NDArray, *, robust: bool) -> OddsRatios:
    """Odds ratios of the first outcome of a fit, per unit of each column.

    Intervals are Wald's. With `robust`, from the sandwich covariance: trials of one row may then hang together, as
    those of one example do; it is multiplied by rows / (rows - columns).

    References
    ----------
    white1982maximum
    """
    beta = fit.coefficients[0]
    covariance = np.linalg.inv(fit.information[0])
    if robust:
        residual = np.asarray(successes, np.float64) - np.asarray(trials, np.float64) * special.expit(design @ beta)
        scores = design * residual[:, None]
        used = int(np.count_nonzero(trials))
        covariance = covariance @ (scores.T @ scores) @ covariance * (used / (used - design.shape[1]))
    error = np.sqrt(np.diag(covariance))
    z = beta / error
    half = special.ndtri(0.975) * error
    with np.errstate(over="ignore"):
        return OddsRatios(np.exp(beta), np.exp(beta - half), np.exp(beta + half), z, 2 * special.ndtr(-np.abs(z)))


@dataclass(frozen=True)
class Auc:
    """Area under the ROC curve: how often a success has a higher score than a failure; 0.5 = no better than chance."""

    estimate: float
    low: float
    high: float


def auc(scores: Real, successes: NDArray, trials: NDArray) -> Auc:
    """Area under the ROC curve of scores, with its 95 % interval over examples.

    Every success is compared with every failure; ties count half. The variance is that of DeLong et al., with the
    trials of one example taken together (Obuchowski); the interval is symmetric on the logit scale.

    Parameters
    ----------
    scores, successes, trials
        Shape (example,).

    Raises
    ------
    ValueError
        If there is no success or no failure.

    References
    ----------
    delong1988comparing; obuchowski1997nonparametric
    """
    s = np.asarray(successes, np.float64)
    f = np.asarray(trials, np.float64) - s
    if s.sum() <= 0 or f.sum() <= 0:
        raise ValueError("Expected successes and failures to compare, but there are only ones of a kind.")
    value, error = long_tail.auc(scores, s, f), long_tail.auc_standard_error(scores, s, f)
    if value in (0.0, 1.0) or error == 0:
        return Auc(value, value, value)
    half = special.ndtri(0.975) * error / (value * (1 - value))
    low, high = special.expit(special.logit(value) + np.array([-half, half]))
    return Auc(value, float(low), float(high))


def aucs(scores: Real, successes: NDArray, trials: NDArray) -> Real:
    """Areas under the ROC curves of several outcomes, each with its own scores: shape (outcome,)."""
    rows = zip(scores, np.atleast_2d(successes), np.atleast_2d(trials), strict=True)
    return np.array([long_tail.auc(score, s, m - s) for score, s, m in rows])


def stratified_folds(successes: NDArray, trials: NDArray, num: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """A fold for each row, with rows of the same numbers of successes and trials spread evenly: shape (row,)."""
    if num < 2:
        raise ValueError(f"Expected `num` >= 2 folds, but got {num!r}.")
    order = rng.permutation(len(successes))
    order = order[np.lexsort((np.asarray(trials)[order], np.asarray(successes)[order]))]
    folds = np.empty(len(order), np.intp)
    folds[order] = np.arange(len(order)) % num
    return folds


def permuted_rows(folds: NDArray[np.intp], trials: NDArray, num: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Random orders of the rows among those of the same fold and number of trials, shape (num, row).

    Folds keep their numbers of successes, and rows their trials: these may hang together with the factors where
    successes do not.
    """
    found = np.empty((num, len(folds)), np.intp)
    _, stratum = np.unique(np.stack([folds, np.asarray(trials)]), axis=1, return_inverse=True)
    order = np.argsort(stratum.ravel(), kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(stratum.ravel()[order])) + 1):
        found[:, rows] = rows[rng.random((num, len(rows))).argsort(axis=1)]
    return found


def cross_validated_scores(design: Real, successes: NDArray, trials: NDArray, folds: NDArray[np.intp]) -> Real:
    """Log odds of each row by a regression on the rows of the other folds, shape (outcome, row)."""
    y, m = np.atleast_2d(np.asarray(successes, np.float64)), np.atleast_2d(np.asarray(trials, np.float64))
    scores = np.empty(y.shape)
    for fold in np.unique(folds):
        out = folds == fold
        # A column that is constant in the other folds (a rare group), or follows from others there, says nothing.
        kept = _independent(design[~out])
        found = logistic(design[np.ix_(~out, kept)], y[:, ~out], m[:, ~out], close=_CLOSE_ENOUGH)
        scores[:, out] = found.coefficients @ design[np.ix_(out, kept)].T
    return scores


def _independent(design: Real) -> NDArray[np.bool_]:
    """The columns that do not follow from those before them."""
    kept = np.zeros(design.shape[1], bool)
    basis = np.empty((0, len(design)))
    for place, column in enumerate(design.T):
        length = np.linalg.norm(column)
        rest = column if length == 0 else column / length
        for _ in range(2):  # once more, for what rounding leaves
            rest = rest - basis.T @ (basis @ rest)
        size = np.linalg.norm(rest)
        if size > _DEPENDENT:
            kept[place] = True
            basis = np.vstack([basis, rest / size])
    return kept


@dataclass(frozen=True)
class _Products:
    """Products of every two columns of the design, in blocks of rows; made once if they fit into `_VALUES` numbers."""

    design: Real
    upper: tuple[NDArray[np.intp], NDArray[np.intp]]
    """The pairs of columns."""
    made: Real | None

    @staticmethod
    def of(design: Real) -> "_Products":
        upper = np.triu_indices(design.shape[1])
        found = _Products(design, upper, None)
        fits = len(design) * len(upper[0]) <= _VALUES
        return _Products(design, upper, np.concatenate([part for _, part in found.blocks()])) if fits else found

    def blocks(self) -> Iterator[tuple[slice, Real]]:
        """Rows and their products, shape (row, pair of columns)."""
        if self.made is not None:
            yield slice(None), self.made
            return
        one, two = self.upper
        size = max(1, _VALUES // len(one))
        for start in range(0, len(self.design), size):
            rows = slice(start, start + size)
            yield rows, self.design[rows, one] * self.design[rows, two]

    def weighted_sum(self, weight: Real) -> Real:
        """Sum over rows of weight x column x column, shape (outcome, column, column), from shape (outcome, row)."""
        nothing = np.zeros((len(weight), len(self.upper[0])))
        total = sum((weight[:, rows] @ part for rows, part in self.blocks()), nothing)
        num = self.design.shape[1]
        square = np.empty((len(weight), num, num))
        one, two = self.upper
        square[:, one, two] = square[:, two, one] = total
        return square

    def quadratic_forms(self, matrices: NDArray[np.floating]) -> Real:
        """row @ matrix @ row of every row of the design, shape (outcome, row), for symmetric matrices."""
        one, two = self.upper
        flat = matrices[:, one, two] * np.where(one == two, 1.0, 2.0)
        return np.concatenate([flat @ part.T for _, part in self.blocks()], axis=1)


def _share(step: NDArray[np.floating], before: Real, share: Real) -> Real:
    """How much of each step to go, in (0, 1], from the step before and the share of it that was gone.

    Without, steps can go to and fro across the maximum forever, since the information is not the curvature of the
    penalty. Along a parabola a share s leaves the part r = 1 - s c of a step; 1 / c = s / (1 - r) would leave none.
    """
    length = (before**2).sum(axis=1)
    left = np.divide((step * before).sum(axis=1), length, out=np.zeros(len(step)), where=length > 0)
    wanted = share / np.maximum(1 - left, 1e-300)
    return np.where(length > 0, np.clip(wanted, share / 4, 1), 1.0)


def _start(design: Real, successes: Real, trials: Real) -> Real:
    """Coefficients to start from, shape (outcome, column): the same chance for all rows if the first column is 1."""
    beta = np.zeros((len(successes), design.shape[1]))
    if (design[:, 0] == 1).all():
        beta[:, 0] = special.logit((successes.sum(axis=1) + 0.5) / (trials.sum(axis=1) + 1))
    return beta


def _chance(design: Real, beta: Real) -> Real:
    """Chance of a success, shape (outcome, row). NumPy's exponential is several times as fast as `special.expit`."""
    odds_against = beta @ design.T
    np.negative(odds_against, out=odds_against)
    with np.errstate(over="ignore"):
        np.exp(odds_against, out=odds_against)
    odds_against += 1
    return np.reciprocal(odds_against, out=odds_against)


def _check(design: Real, successes: Real, trials: Real) -> None:
    if design.ndim != 2 or successes.shape != trials.shape or successes.shape[1] != len(design):
        raise ValueError(
            f"Expected `design` of shape (row, column) and outcomes of shape (outcome, row), but got {design.shape}, "
            f"{successes.shape} and {trials.shape}."
        )
    if not np.isfinite(design).all():
        raise ValueError("Expected a finite `design`, but got NaN or infinite numbers.")
    if np.any(successes < 0) or np.any(successes > trials):
        raise ValueError("Expected numbers of successes from 0 to those of trials, but some lie outside.")
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError("Expected linearly independent columns of `design`, but some follow from others. Drop them.")
