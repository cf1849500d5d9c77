"""What a model answers on examples."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from remnant.lab.data import Dataset, Split, take
from remnant.lab.train import normalize

BATCH = 500
"""Examples in an evaluation batch: results depend on it in the last bits, so it is fixed."""


def logits(model: nn.Module, dataset: Dataset, split: Split) -> np.ndarray:
    """Outputs of the model on all examples of a split, float32 (example, class), in evaluation mode.

    Raises
    ------
    ValueError
        If an output is NaN or infinite, with the number of such examples.
    """
    return checked(logits_of_all([model], dataset, split)[0])


@torch.inference_mode()
def logits_of_all(models: Sequence[nn.Module], dataset: Dataset, split: Split) -> list[np.ndarray]:
    """`logits` of each of several models on one device, not `checked`: examples are fetched and normalized once."""
    device = next((p.device for p in models[0].parameters()), torch.device("cpu"))
    modes = [model.training for model in models]
    parts: list[list[np.ndarray]] = [[] for _ in models]
    for model in models:
        model.eval()
    for batch in torch.arange(len(split.labels)).split(BATCH):
        images = normalize(dataset, take(split.images, batch).to(device))
        for model, part in zip(models, parts, strict=True):
            part.append(model(images).float().cpu().numpy())
    for model, mode in zip(models, modes, strict=True):
        model.train(mode)
    return [np.concatenate(part) for part in parts]


def checked(found: np.ndarray) -> np.ndarray:
    """The logits (example, class), if they are finite.

    Raises
    ------
    ValueError
        If not, with the number of such examples.
    """
    if not np.isfinite(found).all():
        bad = int((~np.isfinite(found).all(axis=1)).sum())
        raise ValueError(
            f"Expected finite logits, but the model gives NaN or infinity on {bad} of {len(found)} examples. "
            "Did its training diverge? Lower `learning_rate`."
        )
    return found


def margins(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Logit of the true class minus the highest other logit, shape (example,); > 0 iff the answer is right."""
    rows = np.arange(len(labels))
    others = logits.copy()
    others[rows, labels] = -np.inf
    return logits[rows, labels] - others.max(axis=1)
