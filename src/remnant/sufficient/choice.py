"""Which training examples to keep: scores of a store, or of trainings made for it, and lists of ids."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from remnant import execute
from remnant.engine import Engine, engine
from remnant.lab.selection import Examples, Selection, made
from remnant.registry import unknown
from remnant.stats.difficulty import held_out_influence
from remnant.stats.influence import memorization
from remnant.stats.selection import Balance, Rule, select
from remnant.store import Store
from remnant.stored_array import unpack_text
from remnant.trial import Recipe, Trial

SCORES: dict[str, str] = {
    "memorization": "gain of an example from training on it, from trials on random subsets",
    "influence": "largest effect on a held-out training example of its class, from trials on random subsets",
    "influence-mean": "mean effect on all held-out training examples, from trials on random subsets",
    "forgetting": "how often a training forgets the example",
    "el2n": "norm of the error early in training",
    "margin": "minus the mean margin over the training",
}
"""Score of training examples to what it is; all are high for hard or important examples."""

FIRST_SEED = 1000
"""Seeds of the trainings that give scores begin here: apart from those of the models that are compared."""

_VALIDATION = 5000
"""Most held-out training examples on which influence is measured."""


@dataclass(frozen=True)
class Scored:
    """How scores are made. Seeds and epochs are read by scores that need a training."""

    seeds: int = 5
    """Number of trainings over which scores are averaged."""
    epochs: float | None = None
    """Length of these trainings; default that of the recipe."""
    epoch: int | None = None
    """Epoch of EL2N; default a tenth of the training, at least 1."""
    scheme: str = "dense"
    """Whose trials on random subsets give memorization and influence."""
    recipe: Recipe | None = None
    """Recipe of the trainings and of the trials on random subsets; default that of the models to be trained."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"Expected `seeds` >= 1, but got {self.seeds!r}.")
        if self.epoch is not None and self.epoch < 0:
            raise ValueError(f"Expected `epoch` >= 0, but got {self.epoch!r}.")


@dataclass(frozen=True)
class Computing:
    """Where trainings run."""

    root: str | None = None
    """Folder of the data sets; default the environment variable REMNANT_DATA."""
    engine: str | Engine = "processes"
    """As in `remnant.execute.run`."""
    workers: int | None = None
    """Worker processes; default one per core."""
    progress: Callable[[int, int, str], None] | None = None
    """Called with the number of finished trainings, that of all, and what they are for."""


def methods() -> dict[str, str]:
    """Every method that `choose` knows, and what it does."""
    rules = {rule: f"method {rule!r} of remnant.stats.selection.select" for rule in get_args(Rule) if rule != "random"}
    found = {f"{score}-{rule}": f"{what}; {text}" for score, what in SCORES.items() for rule, text in rules.items()}
    return {"random": "random examples, others for every seed", **found}


def choose(
    store: str | Path | Store,
    method: str,
    share: float,
    *,
    recipe: Recipe | None = None,
    balance: Balance = "none",
    floor: int = 1,
    cutoff: float = 0.1,
    scored: Scored | None = None,
    draws: int = 10,
    seed: int = 0,
    computing: Computing | None = None,
) -> Selection:
    """The training examples to keep, put into the store: `.write("ids.json")` saves them, `.scheme` trains on them.

    Parameters
    ----------
    store
        Holds trials of the recipe, or is empty: then name the recipe.
    method
        "random", or a score of `SCORES` with a rule of `remnant.stats.selection.select`: "forgetting-hard" keeps what
        is forgotten most, "memorization-easy" removes what is memorized most. The score alone means "-hard".
    share
        Of the training examples to keep, in (0, 1].
    recipe
        Default that of the store's trials.
    balance, floor, cutoff
        As in `remnant.stats.selection.select`; `cutoff` is read by the rule "stratified" only.
    scored
        How scores are made. Trainings that the store already has scores of are not repeated.
    draws
        Lists of a random choice ("random", "-stratified"): the trial of seed s trains on list s mod `draws`, so that
        intervals over seeds hold the luck of the draw.

    Raises
    ------
    ValueError
        For an unknown method, a share out of (0, 1], classes below the floor, scores that are not known for all
        examples, or a store without the trials that a score needs.
    """
    score, rule = _parse(method)
    store = Store.of(store)
    recipe = recipe_of(store, recipe)
    computing, scored = computing or Computing(), scored or Scored()
    examples = examples_of(store, recipe, computing.root)
    values, provenance = None, {}
    if score:
        values = scores(store, score, recipe, scored=scored, computing=computing)
        if np.ptp(values) == 0:
            raise ValueError(f"Expected scores that differ, but {score!r} is {values[0]:g} for every example.")
        provenance = {"score": score, "scores_sha256": hashlib.sha256(values.astype("<f8").tobytes()).hexdigest()}
        provenance |= _provenance(score, scored)
    number = draws if rule in ("random", "stratified") and share < 1 else 1
    options: dict[str, Any] = {"method": rule, "balance": balance, "floor": floor, "cutoff": cutoff}
    lists = [
        select(values, examples.labels, share, ids=examples.ids, seed=seed + draw, **options) for draw in range(number)
    ]
    name = method if score and rule != "hard" else f"{score}-{rule}" if score else rule
    name += "" if balance == "none" else f"-{balance}"
    provenance |= {"share": share, **{("rule" if k == "method" else k): v for k, v in options.items()}, "seed": seed}
    selection = made(examples, lists, name, provenance)
    selection.publish(store)
    return selection


def scores(
    store: Store,
    score: str,
    recipe: Recipe,
    *,
    scored: Scored | None = None,
    computing: Computing | None = None,
) -> NDArray[np.float64]:
    """A score of every training example, high for hard or important ones; NaN where trials do not tell.

    "forgetting", "el2n" and "margin" are means over `scored.seeds` trainings, which are run where the store does not
    have their scores yet. "memorization", "influence" and "influence-mean" come from the store's trials on random
    subsets; no test example is read.

    Raises
    ------
    UnknownNameError
        With all scores and the nearest one.
    ValueError
        If the store has too few trials on random subsets.
    """
    if score not in SCORES:
        raise unknown("score", score, SCORES)
    scored = scored or Scored()
    if scored.recipe is not None and scored.recipe.dataset != recipe.dataset:
        raise ValueError(f"Expected scores on {recipe.dataset!r}, but their recipe is for {scored.recipe.dataset!r}.")
    recipe = scored.recipe or recipe
    if score in ("forgetting", "el2n", "margin"):
        return _trained_scores(store, score, recipe, scored, computing or Computing())
    correct, included = _subset_trials(store, recipe, scored.scheme, score)
    if score == "memorization":
        return memorization(correct, included).value
    labels = examples_of(store, recipe).labels
    validation = np.sort(np.random.default_rng(0).permutation(len(labels))[:_VALIDATION])
    if score == "influence-mean":
        return held_out_influence(correct, included, validation, reduce="mean")
    return held_out_influence(correct, included, validation, labels=labels)


def recipe_of(store: Store, recipe: Recipe | None = None) -> Recipe:
    """The recipe itself, or the only one of a store's trials.

    Raises
    ------
    ValueError
        If the store has none or several.
    """
    if recipe is not None:
        return recipe
    found = list(dict.fromkeys(trial.recipe for trial in store.trials()))
    if len(found) != 1:
        what = "no trials" if not found else f"trials of {len(found)} recipes"
        raise ValueError(f"Expected a `recipe`, because the store {store.root!r} has {what}. Name one.")
    return found[0]


def with_fixed_steps(recipe: Recipe, num_examples: int) -> Recipe:
    """The recipe with its epochs on `num_examples` examples as a number of steps.

    Models on fewer examples then train as long as those on all: what they lose is due to the data alone.
    """
    if recipe.steps is not None:
        return recipe
    per_epoch = num_examples // min(recipe.batch_size, num_examples)
    return replace(recipe, steps=max(1, round(recipe.epochs * per_epoch)))


def examples_of(store: Store, recipe: Recipe, root: str | None = None) -> Examples:
    """The training examples of a recipe: from the store if it has trials of the recipe's data, else from the data."""
    for trial in store.trials():
        if trial.recipe.dataset == recipe.dataset:
            fingerprint = store.manifest(trial)["dataset"]
            record, arrays = store.dataset(fingerprint)
            ids, classes = np.array(unpack_text(arrays["train_ids"])), tuple(unpack_text(arrays["classes"]))
            return Examples(record["name"], fingerprint, ids, arrays["train_labels"], classes)
    from remnant.lab import data

    loaded = data.load(recipe.dataset, root)
    labels = loaded.train.labels.numpy()
    return Examples(loaded.name, loaded.fingerprint, np.asarray(loaded.train.ids), labels, loaded.classes)


def _parse(method: str) -> tuple[str, Rule]:
    """Score ("" for random) and rule of a method's name."""
    if method == "random":
        return "", "random"
    if method in SCORES:
        return method, "hard"
    score, _, rule = method.rpartition("-")
    if score not in SCORES or rule not in get_args(Rule) or rule == "random":
        raise unknown("method", method, [*methods(), *SCORES])
    return score, rule  # pyright: ignore[reportReturnType]


def _provenance(score: str, scored: Scored) -> dict[str, Any]:
    if score in ("forgetting", "el2n", "margin"):
        return {"trainings": scored.seeds, "epochs": scored.epochs, "el2n_epoch": scored.epoch}
    return {"subset_trials_of": scored.scheme}


def _trained_scores(
    store: Store, score: str, recipe: Recipe, scored: Scored, computing: Computing
) -> NDArray[np.float64]:
    if scored.epochs is not None:
        recipe = replace(recipe, epochs=scored.epochs, steps=None)
    epoch = max(1, round(recipe.epochs / 10)) if scored.epoch is None else scored.epoch
    trials = [Trial(recipe, seed=FIRST_SEED + k) for k in range(scored.seeds)]
    names = {trial: f"{trial.key}-{epoch}" for trial in trials}
    lacking = [(trial,) for trial in trials if not store.has_item("scores", names[trial])]
    chosen = computing.engine
    where = engine(chosen, workers=computing.workers) if isinstance(chosen, str) else chosen
    work = partial(_score, store=store.root, root=computing.root, epoch=epoch)
    for done, outcome in enumerate(where.map(work, lacking) if lacking else (), start=1):
        if outcome.error is not None:
            cause = outcome.error.strip().splitlines()[-1]
            known = cause.startswith(execute.MISTAKES)
            raise execute.RunError(
                f"A training that gives scores failed: {cause if known else outcome.error.strip()[-2000:]}"
            )
        if computing.progress is not None:
            computing.progress(len(trials) - len(lacking) + done, len(trials), f"scores: {score}")
    found = [store.item("scores", names[trial], "scores")[1][score].astype(np.float64) for trial in trials]
    return np.mean(found, axis=0)


def _score(cohort: Iterable[Trial], *, store: str, root: str | None, epoch: int) -> None:
    # Imported in the worker: the process that hands out trainings does without torch.
    from remnant.lab.difficulty import score_cohort

    score_cohort(tuple(cohort), store=store, root=root, epoch=epoch)


def _subset_trials(store: Store, recipe: Recipe, scheme: str, score: str) -> tuple[NDArray, NDArray]:
    """Correctness and membership of the training examples in trials on random subsets, each (trial, train_example)."""
    trials = [t for t in store.trials() if t.recipe == recipe and t.subset is not None and t.scheme.label == scheme]
    if len(trials) < 4:
        raise ValueError(
            f"Expected a store with trials on random training subsets of {scheme!r} for the score {score!r}, but "
            f"{store.root!r} has {len(trials)} of this recipe. Train some: `[subsets] trials = 200` in the study; or "
            "take a score that trains for itself: forgetting, el2n, margin."
        )
    labels = examples_of(store, recipe).labels
    correct = np.empty((len(trials), len(labels)), bool)
    included = np.empty_like(correct)
    for row, trial in enumerate(trials):
        arrays = store.read(trial)
        correct[row] = arrays["train_prediction"] == labels
        included[row] = np.unpackbits(arrays["included"], count=len(labels)).astype(bool)
    return correct, included
