"""Answers on corrupted images: the class, and how many classes come before the true one."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from remnant.lab.corruptions import corrupt
from remnant.lab.dataset import ComputedInputs, Dataset, Images, take
from remnant.lab.probe import BATCH
from remnant.lab.probing import Subject
from remnant.lab.train import normalize
from remnant.probes.corruptions import Corruptions


def prepare(probe: Corruptions, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Corrupted images of the rows, uint8 (corruption, severity, example, height, width, channel).

    Raises
    ------
    ValueError
        If the data are not images.
    """
    images = _pictures(dataset)
    number, shape = len(rows), tuple(images.shape[1:])
    if len(shape) != 3:
        raise ValueError(
            f"Expected images to corrupt, but the examples of {dataset.name!r} have the shape {shape}. "
            "Corruptions are defined for pictures only: leave the probe 'corruptions' out."
        )
    clean = take(images, rows)
    if clean.dtype != torch.uint8:
        raise ValueError(
            f"Expected images of bytes to corrupt, but those of {dataset.name!r} are {clean.dtype}. Corruptions are "
            "defined for pictures of 0 to 255 only: leave the probe 'corruptions' out."
        )
    pixels, ids = clean.permute(0, 2, 3, 1).contiguous().numpy(), dataset.test.ids[rows]
    out = np.empty((len(probe.corruptions), len(probe.severities), number, *pixels.shape[1:]), np.uint8)
    for i, corruption in enumerate(probe.corruptions):
        for j, severity in enumerate(probe.severities):
            out[i, j] = corrupt(
                pixels, ids, corruption, severity, constants=probe.constants, quirks=probe.quirks
            )  # fmt: skip
    return out


@torch.inference_mode()
def measure(probe: Corruptions, subject: Subject, prepared: Any) -> dict[str, np.ndarray]:
    """`prediction`, and `rank`: the number of classes before the true one, 0 if the answer is right.

    Among equal logits the first class comes first, as in `prediction`.

    Raises
    ------
    ValueError
        If an output is NaN or infinite.
    """
    dataset, labels = subject.dataset, subject.dataset.test.labels[torch.from_numpy(subject.rows)]
    device = next((p.device for p in subject.model.parameters()), torch.device("cpu"))
    kind = np.min_scalar_type(dataset.num_classes - 1)
    dims = (len(labels), len(probe.corruptions), len(probe.severities))
    found = {"prediction": np.empty(dims, kind), "rank": np.empty(dims, kind)}
    for i, corruption in enumerate(probe.corruptions):
        for j, severity in enumerate(probe.severities):
            for start in range(0, len(labels), BATCH):
                part = slice(start, start + BATCH)
                pixels = torch.from_numpy(prepared[i, j, part]).permute(0, 3, 1, 2)
                logits = subject.model(normalize(dataset, _inputs(dataset, pixels).to(device))).float().cpu()
                if not torch.isfinite(logits).all():
                    raise ValueError(
                        f"Expected finite logits, but the model gives NaN or infinity on images with {corruption!r} "
                        f"of severity {severity}. Leave this corruption out of `corruptions`."
                    )
                found["prediction"][part, i, j] = logits.argmax(1).numpy()
                found["rank"][part, i, j] = ranks(logits, labels[part]).numpy()
    return found


def ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """Number of classes that come before the true one, shape (example,); among equal logits the first comes first."""
    true = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1]) < labels[:, None]
    return ((logits > true) | ((logits == true) & earlier)).sum(1)


def _pictures(dataset: Dataset) -> Images:
    """The test images, or those that the inputs are computed from."""
    images = dataset.test.images
    return images.images if isinstance(images, ComputedInputs) else images


def _inputs(dataset: Dataset, pixels: Tensor) -> Tensor:
    """What the network takes, before it is normalized, for pictures."""
    images = dataset.test.images
    return images.compute(pixels) if isinstance(images, ComputedInputs) else pixels
