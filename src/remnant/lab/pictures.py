"""Small pictures of examples, stored once per data set so that reports need neither data nor torch."""

import numpy as np
import torch
from torch.nn import functional

from remnant.lab.data import Images, take

SIDE = 32
"""Larger images are made at most this wide and high, in pixels."""

LIMIT = 512 * 2**20
"""Bytes above which no pictures are stored; galleries then show captions only."""


def pictures(images: Images) -> np.ndarray | None:
    """uint8 pictures (example, height, width, channel) of all images; None if they are not pictures or too many.

    Pictures have 1, 3 or 4 channels and integer pixels. Larger ones are averaged down to `SIDE`.
    """
    if len(images.shape) != 4 or images.shape[1] not in (1, 3, 4):
        return None
    height, width = (min(SIDE, side) for side in images.shape[2:])
    if len(images) * height * width * images.shape[1] > LIMIT:
        return None
    parts = []
    for batch in torch.arange(len(images)).split(1000):
        part = take(images, batch)
        if part.dtype != torch.uint8:
            return None
        if part.shape[2:] != (height, width):
            part = functional.interpolate(part.float(), (height, width), mode="area").round().to(torch.uint8)
        parts.append(part.permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)
