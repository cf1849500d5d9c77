"""Which trials train together, from their description alone: what hands out trials does without torch."""

import re
from itertools import pairwise

from remnant.schemes import Dense, SelectedData
from remnant.trial import Trial

MOST = 16
"""So many small models share the cost of a call; more of them gain nothing (docs/results/training-speed.md)."""

SMALL = 2**15
"""Weights between hidden layers up to which a network counts as small. Beyond, products cost more than calls."""


def together(trial: Trial) -> bool:
    """Whether the trial is trained as one of a stack of models, which it then always is, alone or with others.

    So are fully connected networks ("mlp", "mlp-256-128", ...) in float32 that train from scratch without a
    compression method taking part. All others train one after another.
    """
    recipe = trial.recipe
    return (
        hidden(recipe.architecture) is not None
        and recipe.precision == "float32"
        and isinstance(trial.scheme, Dense | SelectedData)
    )


def size(trial: Trial) -> int:
    """At most so many trials like this one are handed out together; 1 if they train one after another.

    A worker that is killed loses so many trials, and progress is shown in such steps.
    """
    if not together(trial):
        return 1
    widths = hidden(trial.recipe.architecture) or ()
    weights = sum(a * b for a, b in pairwise(widths))
    return MOST if max(weights, 256 * max(widths)) <= SMALL else MOST // 4


def hidden(architecture: str) -> tuple[int, ...] | None:
    """Widths of the hidden layers of a built-in fully connected network; None for other architectures."""
    if re.fullmatch(r"mlp(-\d+)*", architecture) is None:
        return None
    return tuple(int(width) for width in architecture.split("-")[1:]) or (128, 64)
