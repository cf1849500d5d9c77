"""One attack over rising budgets."""

from collections.abc import Callable, Iterator, Sequence

import torch

from remnant.lab.attacks.draws import Draws
from remnant.lab.attacks.points import Points, worse
from remnant.lab.attacks.target import Target

Attack = Callable[[Target, Points, float, Draws], Points]
"""attack(target, clean, budget, draws) -> the worst points found."""


def escalate(
    attack: Attack, target: Target, clean: Points, budgets: Sequence[float], draws: Draws, *, early_stop: bool
) -> Iterator[Points]:
    """The worst points at each budget: never less bad than those of the budgets before it.

    Examples whose clean images are wrong are left alone.

    Parameters
    ----------
    budgets
        Rising, in units of the range of a pixel.
    early_stop
        What a smaller budget broke is not attacked again: the same image is within the larger budget.
    """
    found = clean
    for budget in budgets:
        tried = ~(found.broken if early_stop else clean.broken)
        here = tried.nonzero()[:, 0]
        if len(here):
            with torch.no_grad():
                new = attack(target, clean[here], budget, draws[here])
            found = found.put(here, worse(found[here], new))
        yield found
