"""What a model answers on examples."""

import numpy as np
import torch
from torch import nn

from remnant.lab.data import Dataset, Split, take
from remnant.lab.train import normalize

BATCH = 500
"""Examples in an evaluation batch: results depend on it in the last bits, so it is fixed."""


@torch.inference_mode()
def logits(model: nn.Module, dataset: Dataset, split: Split) -> np.ndarray:
    """Outputs of the model on all examples of a split, float32 (example, class), in evaluation mode.

    Raises
    ------
    ValueError
        If an output is NaN or infinite, with the number of such examples.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    was_training = model.training
    model.eval()
    parts = []
    for batch in torch.arange(len(split.labels)).split(BATCH):
        images = normalize(dataset, take(split.images, batch).to(device))
        parts.append(model(images).float().cpu().numpy())
    model.train(was_training)
    found = np.concatenate(parts)
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
