"""Images near given ones that a model gets wrong: L-infinity attacks in the range [0, 1] of pixels.

Attacks are functions of a `Target`, the clean `Points` that are to be changed, a budget and `Draws` of random
numbers; they return the worst `Points` that they found. `escalate` runs one over rising budgets.
"""

from remnant.lab.attacks.draws import Draws, draw
from remnant.lab.attacks.ensemble import ensemble
from remnant.lab.attacks.escalation import escalate
from remnant.lab.attacks.gradients import agreement, chosen_target
from remnant.lab.attacks.points import Points, worse
from remnant.lab.attacks.square import square
from remnant.lab.attacks.steps import fgsm, pgd
from remnant.lab.attacks.target import Target

__all__ = [
    "Draws", "Points", "Target", "agreement", "chosen_target", "draw", "ensemble", "escalate", "fgsm", "pgd",
    "square", "worse",
]  # fmt: skip
