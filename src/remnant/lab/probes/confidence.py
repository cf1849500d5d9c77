"""The confidence of a model in the true class of its training examples."""

from typing import Any

import numpy as np
import torch

from remnant.lab.probe import BATCH
from remnant.lab.probing import Subject
from remnant.probes.confidence import Confidence
from remnant.stats.membership import logit_confidence, loss


@torch.inference_mode()
def measure(probe: Confidence, subject: Subject, prepared: Any = None) -> dict[str, np.ndarray]:
    """log(p / (1 - p)) of the true class, and the cross-entropy in nats, without augmentation."""
    device = next((p.device for p in subject.model.parameters()), torch.device("cpu"))
    labels = subject.split.labels.numpy()[subject.rows]
    found = np.empty(len(subject.rows))
    for start in range(0, len(found), BATCH):
        part = slice(start, start + BATCH)
        logits = subject.model(subject.inputs(subject.rows[part]).to(device)).double().cpu().numpy()
        found[part] = logit_confidence(logits, labels[part])
    precision = np.dtype(probe.precision)
    most = float(np.finfo(precision).max)
    return {
        "confidence": np.clip(found, -most, most).astype(precision),
        "loss": np.minimum(loss(found), most).astype(precision),
    }
