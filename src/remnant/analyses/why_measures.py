"""Outcomes to be explained, and the cross-validated models that explain them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import Comparison, stream
from remnant.analyses.exemplar_measures import measure as exemplars
from remnant.analyses.why_factors import Factor, Influencers, Known, Reference, find_factors, reference_factors
from remnant.stats import odds
from remnant.stats.agreement import mismatches
from remnant.stats.multiplicity import benjamini_hochberg

OUTCOMES = {
    "cie_u": "the right answer is lost",
    "cie": "the answer changes",
    "pie": "the most frequent answer changes (PIE)",
}
LEAST_EVENTS = 10
"""Fewer events, or fewer examples without, say nothing on several factors."""
FEWEST_FOR_HALVES = 4
"""From so many reference models on, factors come from one half of them and outcomes from the other."""
_DEPENDENT = 0.999
_PIE_PERMUTATIONS = 100
"""The status as PIE does not depend on it."""


@dataclass(frozen=True)
class Settings:
    """How the models are fitted."""

    folds: int
    permutations: int
    most_examples: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What happened to each example: successes of so many trials, shape (example,)."""

    kind: str
    """A key of `OUTCOMES`."""
    successes: NDArray[np.int64]
    trials: NDArray[np.int64]
    """Pairs of models in which it can happen: for lost answers those whose first model is right."""

    @property
    def enough(self) -> bool:
        """Whether there is something to explain."""
        events, rest = self.successes > 0, self.trials > self.successes
        return int(events.sum()) >= LEAST_EVENTS and int(rest.sum()) >= LEAST_EVENTS


@dataclass(frozen=True)
class Model:
    """A regression of one outcome on several factors."""

    outcome: Outcome
    probed: bool
    """Only the examples on which every factor of every probe was measured."""
    factors: tuple[Factor, ...]
    rows: NDArray[np.intp]
    """The examples in the model."""
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    """Of each factor: 1 for yes or no, else the standard deviation."""
    coefficients: NDArray[np.float64]
    """Of the standardized factors, shape (factor,)."""
    ratios: odds.OddsRatios
    """By one standard deviation of each factor, or by yes against no."""
    q: NDArray[np.float64]
    alone: NDArray[np.float64]
    """Area under the curve of each factor by itself, above 0.5 if high values go with the outcome."""
    auc: odds.Auc
    """Cross-validated."""
    auc_permuted: NDArray[np.float64]
    """The same with the outcome permuted, shape (permutation,)."""
    converged: bool
    """Whether the coefficients are at the maximum."""

    @property
    def num_events(self) -> int:
        """Number of examples in the model to which it happened at least once."""
        return int(np.count_nonzero(self.outcome.successes[self.rows]))

    def contributions(self, rows: NDArray[np.integer]) -> NDArray[np.float64]:
        """Part of each factor in the log odds of some examples, 0 for an average example: shape (row, factor)."""
        values = np.stack([factor.values[rows] for factor in self.factors], axis=1)
        return np.nan_to_num((values - self.centre) / self.scale * self.coefficients)


@dataclass(frozen=True)
class Part:
    """One compressed side against the reference."""

    comparison: Comparison
    known: Known
    """Factors from all models of the reference."""
    flags: dict[str, NDArray[np.bool_]]
    """Kinds of mismatch, each of shape (pair, example)."""
    is_pie: NDArray[np.bool_] | None
    """Shape (example,); None unless both sides have 2 or more models."""
    models: tuple[Model, ...]
    between_seeds: tuple[Model, ...]
    """The same models of what differs between two models of the reference."""
    halves: bool
    """Factors of the reference come from other models than outcomes."""
    too_few: tuple[str, ...]
    """Outcomes with too few events."""
    sampled: bool
    """The models use a sample of the examples."""

    def model(self, kind: str, *, probed: bool = False) -> Model | None:
        """The model of an outcome."""
        return _of(self.models, kind, probed)

    def seeds(self, kind: str, *, probed: bool = False) -> Model | None:
        """The model of the same outcome between two models of the reference."""
        return _of(self.between_seeds, kind, probed)


def _of(models: Sequence[Model], kind: str, probed: bool) -> Model | None:
    return next((model for model in models if (model.outcome.kind, model.probed) == (kind, probed)), None)


def measure(
    population: xr.Dataset,
    comparison: Comparison,
    top: Influencers | str,
    settings: Settings,
    *,
    by_reference: Callable[[tuple[int, ...]], Reference],
    floor: Comparison | None = None,
) -> Part:
    """All outcomes of one compressed side with their models, and what differs between reference models.

    Parameters
    ----------
    by_reference
        What some models of the reference, by their places, know of each example.
    floor
        A second run of the reference against the first, where there is one.
    """
    scheme, num = comparison.scheme, comparison.num_first
    halves = num >= FEWEST_FOR_HALVES and len(comparison.pairs) == num
    shown = range(num // 2, num) if halves else range(num)
    every = find_factors(population, scheme, by_reference(tuple(range(num))), top)
    factors = every.factors
    if halves:
        own = {f.name: f for f in reference_factors(by_reference(tuple(range(num // 2))))}
        factors = tuple(own.get(factor.name, factor) for factor in factors)
    pairs = [pair for pair in comparison.pairs if pair[0] in shown]
    outcomes = _outcomes(comparison.first, comparison.second, pairs, comparison.label)
    is_pie = None
    if min(num, comparison.num_second) >= 2:
        tie = "most-probable" if comparison.has_logits else "lowest"
        is_pie = exemplars(comparison, tie, "auto", _PIE_PERMUTATIONS, settings.seed).is_pie
        outcomes.append(Outcome("pie", is_pie.astype(np.int64), np.ones(len(is_pie), np.int64)))
    chosen = [outcome for outcome in outcomes if outcome.enough]
    rng = stream(settings.seed, "why", scheme)
    rows = np.arange(comparison.first.shape[1])
    if sampled := len(rows) > settings.most_examples:
        rows = np.sort(rng.choice(rows, settings.most_examples, replace=False))
    seeds = [o for o in _between_seeds(comparison, shown, floor) if o.enough]
    fit = _Fitting(rows, settings, scheme)
    return Part(
        comparison=comparison,
        known=every,
        flags=_flags(comparison.first, comparison.second, comparison.pairs, comparison.label),
        is_pie=is_pie,
        models=tuple(m for place, o in enumerate(chosen) for m in fit.models(o, factors, permute=place == 0)),
        between_seeds=tuple(m for o in seeds for m in fit.models(o, _before(factors), permute=False)),
        halves=halves,
        too_few=tuple(outcome.kind for outcome in outcomes if not outcome.enough),
        sampled=sampled,
    )


def _before(factors: Sequence[Factor]) -> list[Factor]:
    """Those that say nothing on a compressed model."""
    return [factor for factor in factors if not factor.of_change]


def _flags(
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    pairs: Sequence[tuple[int, int]],
    label: NDArray[np.integer] | None,
) -> dict[str, NDArray[np.bool_]]:
    one, two = (list(rows) for rows in zip(*pairs, strict=True))
    return mismatches(first[one], second[two], label)


def _outcomes(
    first: NDArray[np.integer],
    second: NDArray[np.integer],
    pairs: Sequence[tuple[int, int]],
    label: NDArray[np.integer] | None,
) -> list[Outcome]:
    """Lost right answers, where labels are known, and changed answers."""
    flags = _flags(first, second, pairs, label)
    num = first.shape[1]
    found = [Outcome("cie", np.count_nonzero(flags["cie"], axis=0), np.full(num, len(pairs)))]
    if label is not None:
        right = np.count_nonzero(first[[j for j, _ in pairs]] == label, axis=0)
        found.insert(0, Outcome("cie_u", np.count_nonzero(flags["cie_u"], axis=0), right))
    return found


def _between_seeds(comparison: Comparison, shown: Sequence[int], floor: Comparison | None) -> list[Outcome]:
    """The same between each model of the reference and the next one; or between two runs of it."""
    if len(shown) >= 2:
        pairs = list(zip(shown, [*shown[1:], shown[0]], strict=True))
        return _outcomes(comparison.first, comparison.first, pairs, comparison.label)
    if floor is not None:
        return _outcomes(floor.first, floor.second, floor.pairs, floor.label)
    return []


@dataclass(frozen=True)
class _Fitting:
    """What all models of one compressed side share."""

    rows: NDArray[np.intp]
    settings: Settings
    scheme: str

    def models(self, outcome: Outcome, factors: Sequence[Factor], *, permute: bool) -> list[Model]:
        """The model on all examples, and the one on the examples that were probed, if there are some."""
        rows = self.rows[outcome.trials[self.rows] > 0]
        whole = [factor for factor in factors if np.isfinite(factor.values[rows]).mean() >= 0.99]
        found = [self._fit(outcome, whole, rows, permute=permute, probed=False)]
        if len(whole) < len(factors):
            found.append(self._fit(outcome, factors, rows, permute=False, probed=True))
        return [model for model in found if model is not None]

    def _fit(
        self, outcome: Outcome, factors: Sequence[Factor], rows: NDArray[np.intp], *, permute: bool, probed: bool
    ) -> Model | None:
        if not factors:
            return None
        values = np.stack([factor.values[rows] for factor in factors], axis=1)
        known = np.isfinite(values).all(axis=1)
        rows, values = rows[known], values[known]
        y, m = outcome.successes[rows].astype(float), outcome.trials[rows].astype(float)
        if min(np.count_nonzero(y), np.count_nonzero(m - y)) < LEAST_EVENTS:
            return None
        kept = _independent(values)
        if not kept:
            return None
        factors, values = [factors[i] for i in kept], values[:, kept]
        binary = np.array([factor.binary for factor in factors])
        centre, scale = values.mean(axis=0), np.where(binary, 1.0, values.std(axis=0))
        design = np.column_stack([np.ones(len(rows)), (values - centre) / scale])
        fit = odds.logistic(design, y, m)
        every = odds.odds_ratios(fit, design, y, m, robust=m.max() > 1)
        ratios = odds.OddsRatios(*(getattr(every, name)[1:] for name in ("estimate", "low", "high", "z", "p")))
        rng = stream(self.settings.seed, "folds", self.scheme, outcome.kind, str(probed))
        folds = odds.stratified_folds(y, m, self.settings.folds, rng)
        scores = odds.cross_validated_scores(design, y, m, folds)[0]
        return Model(
            outcome=outcome,
            probed=probed,
            factors=tuple(factors),
            rows=rows,
            centre=centre,
            scale=scale,
            coefficients=fit.coefficients[0, 1:],
            ratios=ratios,
            q=benjamini_hochberg(ratios.p),
            alone=odds.aucs(values.T, np.tile(y, (len(factors), 1)), np.tile(m, (len(factors), 1))),
            auc=odds.auc(scores, y, m),
            auc_permuted=self._permuted(design, y, m, folds, rng) if permute else np.empty(0),
            converged=bool(fit.converged[0]),
        )

    def _permuted(
        self,
        design: NDArray[np.float64],
        y: NDArray[np.float64],
        m: NDArray[np.float64],
        folds: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        if not self.settings.permutations:
            return np.empty(0)
        orders = odds.permuted_rows(folds, m, self.settings.permutations, rng)
        scores = odds.cross_validated_scores(design, y[orders], m[orders], folds)
        return odds.aucs(scores, y[orders], m[orders])


def _independent(values: NDArray[np.float64]) -> list[int]:
    """Columns that vary and do not follow from those before them."""
    kept: list[int] = []
    basis = np.empty((0, len(values)))
    for place in range(values.shape[1]):
        column = values[:, place] - values[:, place].mean()
        length = np.linalg.norm(column)
        if length == 0 or np.ptp(values[:, place]) == 0:
            continue
        column = column / length
        rest = column - basis.T @ (basis @ column)
        size = np.linalg.norm(rest)
        if size**2 < 1 - _DEPENDENT:
            continue
        kept.append(place)
        basis = np.vstack([basis, rest / size])
    return kept
