"""Attacks one after another, each on the examples that those before it left."""

from collections.abc import Callable

from torch import Tensor

from remnant.lab.attacks.adaptive import adaptive
from remnant.lab.attacks.draws import Draws
from remnant.lab.attacks.losses import cross_entropy, runners_up, targeted
from remnant.lab.attacks.points import Points, worse
from remnant.lab.attacks.square import square
from remnant.lab.attacks.target import Target


def ensemble(target: Target, clean: Points, budget: float, draws: Draws, *, steps: int, targets: int) -> Points:
    """The worst images of adaptive ascent on two losses, then of random search.

    Adaptive ascent on the cross-entropy; on the targeted difference of logits ratio towards each of the `targets`
    likeliest wrong classes; then the Square Attack. This is the ensemble of Croce & Hein without FAB, which searches
    for the smallest change and seldom breaks what the others leave.

    References
    ----------
    croce2020reliable, section 6
    """
    wrong = runners_up(clean.logits, clean.labels)

    def ascent(loss, place: int):
        return lambda here: adaptive(
            target, clean[here], budget, draws.starts[here, 0], steps=steps, loss=loss, aims=wrong[here, place]
        )

    found = _next(clean, ascent(cross_entropy, 0))
    for place in range(min(targets, wrong.shape[1])):
        found = _next(found, ascent(targeted, place))
    return _next(found, lambda here: square(target, clean[here], budget, draws[here]))


def _next(found: Points, attack: Callable[[Tensor], Points]) -> Points:
    here = (~found.broken).nonzero()[:, 0]
    return found.put(here, worse(found[here], attack(here))) if len(here) else found
