"""Answers of a model under adversarial attacks, and on the attacks of its reference."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from remnant.lab.attacks import Points, Target, chosen_target, draw, ensemble, escalate, fgsm, pgd, square
from remnant.lab.attacks.escalation import Attack
from remnant.lab.attacks.steps import sloped
from remnant.lab.dataset import take
from remnant.lab.probing import Subject
from remnant.probes.adversarial import ABSENT, GRADIENTS, Adversarial

_VALUES = 2**20
"""Pixel values that are attacked at a time."""
_CHECKED = 32
"""Examples that tell whether gradients can be followed."""


def measure(probe: Adversarial, subject: Subject, prepared: Any = None) -> dict[str, np.ndarray]:
    """Answers on the unchanged images and on what each attack found within each budget.

    Raises
    ------
    ValueError
        If the inputs are not pictures of 8 bits, whose range is known.
    """
    _check(subject)
    shape = (len(subject.rows), len(probe.attacks), 1 + len(probe.budgets))
    prediction, on_reference = np.full((2, *shape), ABSENT, np.int16)
    gradient = np.zeros(shape[:2], np.uint8)
    for column, name in enumerate(probe.attacks):
        attacked, source = _attacked(subject, name)
        gradient[:, column] = GRADIENTS.index(source)
        if attacked is None:
            continue
        for rows, answers, reference_answers in _answers(probe, subject, name, attacked):
            prediction[rows, column] = answers
            on_reference[rows, column] = reference_answers
    return {"prediction": prediction, "on_reference": on_reference, "gradient": gradient}


def _check(subject: Subject) -> None:
    images = subject.split.images
    first = take(images, subject.rows[:1])
    if first.dim() != 4 or first.dtype != torch.uint8:
        raise ValueError(
            f"Expected pictures of 8 bits to attack, whose pixels have a range, but {subject.dataset.name!r} holds "
            f"{first.dtype} of shape {tuple(images.shape[1:])}. Probe models of such pictures."
        )


def _attacked(subject: Subject, name: str) -> tuple[Target | None, str]:
    """The model that an attack is made on, and whose gradients it follows; None if it is not there."""
    own, reference = _targets(subject)
    target, other = (reference, None) if name == "transfer" else (own, reference)
    if target is None or name == "square":
        return target, "not used"
    pixels, labels = _images(subject, slice(0, _CHECKED), target.device)
    return chosen_target(target, other, pixels, labels, subject.rng)


def _targets(subject: Subject) -> tuple[Target, Target | None]:
    own = Target.of(subject.model, subject.dataset)
    return own, None if subject.reference is None else Target.of(subject.reference, subject.dataset)


def _answers(
    probe: Adversarial, subject: Subject, name: str, attacked: Target
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Examples, and the answers of the model and of its reference on what was found for them, (example, budget)."""
    own, reference = _targets(subject)
    attack, early_stop = _attack(probe, name)
    budgets = [budget / 255 for budget in probe.budgets]
    shape = subject.dataset.input_shape
    size = max(1, _VALUES // int(np.prod(shape)))
    for start in range(0, len(subject.rows), size):
        rows = slice(start, start + size)
        pixels, labels = _images(subject, rows, attacked.device)
        queries = probe.queries if name in ("square", "ensemble") else 0
        draws = draw(subject.rng, subject.rows[rows], shape, restarts=probe.restarts, queries=queries)
        clean = attacked.points(pixels, labels)
        start = sloped(attacked, clean) if name in ("fgsm", "pgd", "transfer") else clean
        found = [clean, *escalate(attack, attacked, start, budgets, draws.to(attacked.device), early_stop=early_stop)]
        on_own, on_reference = (_seen(target, found, attacked) for target in (own, reference))
        yield rows, on_own, on_reference


def _attack(probe: Adversarial, name: str) -> tuple[Attack, bool]:
    """The attack of that name, and whether it leaves alone what a smaller budget broke."""
    if name == "ensemble":
        return partial(ensemble, steps=probe.adaptive_steps, targets=probe.targets), True
    if name in ("pgd", "transfer"):
        return partial(pgd, steps=probe.steps), False
    return (square, True) if name == "square" else (fgsm, False)


def _images(subject: Subject, rows: slice, device: torch.device) -> tuple[Tensor, Tensor]:
    chosen = subject.rows[rows]
    pixels = take(subject.split.images, chosen).to(device).float() / 255
    return pixels, subject.split.labels[torch.from_numpy(chosen)].to(device)


def _seen(target: Target | None, found: list[Points], attacked: Target) -> np.ndarray:
    """Answers of a model on points of rising budgets, (example, budget): once wrong, always wrong."""
    if target is None:
        return np.full((len(found[0]), len(found)), ABSENT, np.int16)
    same = target.model is attacked.model
    logits = [(p if same else target.points(p.pixels.to(target.device), p.labels)).logits for p in found]
    answers = torch.stack([values.argmax(1) for values in logits], 1).cpu().numpy().astype(np.int16)
    return lasting(answers, found[0].labels.cpu().numpy())


def lasting(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Answers (example, budget) in which the first wrong one of an example takes the place of all later ones.

    An attacker with a larger budget can still use the image of the smaller one.
    """
    wrong = answers != labels[:, None]
    first = np.where(wrong.any(axis=1), wrong.argmax(axis=1), answers.shape[1] - 1)
    return np.take_along_axis(answers, np.minimum(np.arange(answers.shape[1]), first[:, None]), axis=1)
