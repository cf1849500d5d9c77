"""Which factors go together with an outcome: logistic regression with odds ratios, and how well it predicts.

Outcomes are numbers of successes of each example among its trials (1 trial for a yes or no). Many outcomes on the same
factors are fitted at once, as permutations of the outcome need it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

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
"""Numbers of a block: 32 MiB."""


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
    pieces = _Pieces.of(design, len(y))
    beta = np.zeros((len(y), design.shape[1]))
    information = _information(pieces, m, beta)
    active = np.ones(len(y), bool)
    before, damping = np.full(len(y), np.inf), np.ones(len(y))
    for _ in range(_ITERATIONS):
        here = np.flatnonzero(active)
        score = _score(pieces, y[here], m[here], beta[here], information[here], firth)
        step = np.linalg.solve(information[here], score[:, :, None])[:, :, 0]
        longest = np.abs(step).max(axis=1)
        # Steps that do not shrink go back and forth across the maximum: shorter ones then reach it.
        damping[here] = np.where(longest < before[here], np.minimum(1, 2 * damping[here]), damping[here] / 2)
        before[here] = longest
        beta[here] += step * np.minimum(damping[here], _LARGEST_STEP / np.maximum(longest, 1e-300))[:, None]
        information[here] = _information(pieces, m[here], beta[here])
        active[here] = longest > close
        if not active.any():
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
        return OddsRatios(np.exp(beta), np.exp(beta - half), np.exp(beta + half), z, 2 * stats.norm.sf(np.abs(z)))


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
class _Pieces:
    """Blocks of rows with the products of their columns, made once if they fit into `_VALUES` numbers."""

    design: Real
    upper: tuple[NDArray[np.intp], NDArray[np.intp]]
    size: int
    products: tuple[Real, ...]

    @staticmethod
    def of(design: Real, num_outcomes: int) -> "_Pieces":
        upper = np.triu_indices(design.shape[1])
        size = max(1, _VALUES // (len(upper[0]) + 4 * num_outcomes))
        found = _Pieces(design, upper, size, ())
        if len(design) * len(upper[0]) > _VALUES:
            return found
        return _Pieces(design, upper, size, tuple(products for _, _, products in found.blocks()))

    def blocks(self) -> Iterator[tuple[slice, Real, Real]]:
        """Rows, their values, and the products of every two columns, shape (row, pair of columns)."""
        for number, start in enumerate(range(0, len(self.design), self.size)):
            block = slice(start, start + self.size)
            part = self.design[block]
            made = self.products[number] if self.products else part[:, self.upper[0]] * part[:, self.upper[1]]
            yield block, part, made


def _information(pieces: _Pieces, trials: Real, beta: Real) -> Real:
    """Sum over rows of trials x odds variance x column x column, shape (outcome, column, column)."""
    total = np.zeros((len(beta), len(pieces.upper[0])))
    for block, part, products in pieces.blocks():
        chance = special.expit(beta @ part.T)
        total += (trials[:, block] * (chance * (1 - chance))) @ products
    num = pieces.design.shape[1]
    square = np.empty((len(beta), num, num))
    one, two = pieces.upper
    square[:, one, two] = square[:, two, one] = total
    return square


def _score(pieces: _Pieces, successes: Real, trials: Real, beta: Real, information: Real, firth: bool) -> Real:
    """Derivative of the (penalized) log-likelihood, shape (outcome, column)."""
    total = np.zeros(beta.shape)
    one, two = pieces.upper
    twice = np.where(one == two, 1.0, 2.0)
    inverse = np.linalg.inv(information)[:, one, two] * twice if firth else None
    for block, part, products in pieces.blocks():
        chance = special.expit(beta @ part.T)
        off = successes[:, block] - trials[:, block] * chance
        if inverse is not None:
            leverage = trials[:, block] * (chance * (1 - chance)) * (inverse @ products.T)
            off += leverage * (0.5 - chance)
        total += off @ part
    return total


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
