"""Data sets whose inputs are coefficients: `coefficients:zfp-precision-6:cifar10`."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from remnant.lab.coefficients.tiles import check_images
from remnant.lab.coefficients.transforms import COEFFICIENTS, Coefficients, named
from remnant.lab.dataset import Dataset, Images, take

_BATCH = 512
_FARTHEST = 32.0
"""Standard deviations from the mean; on photographs, coefficients with all their bits stay within 20."""


@dataclass(frozen=True, eq=False)
class CoefficientImages:
    """Coefficients of images, computed when they are asked for: in memory are the images, a quarter of the size."""

    images: Images
    transform: Coefficients

    @property
    def shape(self) -> tuple[int, ...]:
        """(number of images, channels * block^2, rows, columns)."""
        return len(self.images), *self.transform.shape(tuple(self.images.shape[1:]))

    @property
    def fingerprint(self) -> str:
        """Hash of the images and the transform."""
        digest = hashlib.sha256(f"{self.transform.name}\0{tuple(self.images.shape)}\0".encode())
        if isinstance(self.images, Tensor):
            digest.update(self.images.permute(0, 2, 3, 1).contiguous().numpy().data)
        else:
            digest.update(self.images.fingerprint.encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: np.ndarray) -> Tensor:
        """The coefficients of the images at `indices`, float32, channels last in memory."""
        return self.compute(take(self.images, indices))

    def compute(self, images: Tensor) -> Tensor:
        """The coefficients of images."""
        return self.transform(images)


def with_coefficients(dataset: Dataset, transform: Coefficients) -> Dataset:
    """The data set with coefficients as its inputs; ids, labels, groups and classes are the same.

    Networks see each coefficient less its mean, over its standard deviation, of all training images.

    Raises
    ------
    ValueError
        If the inputs are not uint8 images of whole blocks.
    """
    parts = []
    for split in (dataset.train, dataset.test):
        check_images(take(split.images, np.arange(min(1, len(split.images)))), transform.smallest)
        parts.append(replace(split, images=CoefficientImages(split.images, transform)))
    mean, std = moments(parts[0].images)
    name = f"coefficients:{transform.name}:{dataset.name}"
    return Dataset(name, parts[0], parts[1], dataset.classes, mean, std)


def from_coefficients(name: str, root: Path, rest: str, *, load: Callable[[str, Path], Dataset]) -> Dataset:
    """The data set called `name`, which is `coefficients:` and `rest` = `TRANSFORM:DATASET`; `load` gives DATASET.

    Raises
    ------
    ValueError
        If there is no such transform or data set.
    """
    transform, _, base = rest.partition(":")
    if not base:
        raise ValueError(
            f"Expected coefficients:TRANSFORM:DATASET, such as coefficients:zfp-precision-6:cifar10, but got {name!r}. "
            f"TRANSFORM is one of {list(COEFFICIENTS)}."
        )
    found = named(transform)
    return replace(with_coefficients(load(base, root), found), name=name)


def moments(images: CoefficientImages) -> tuple[Tensor, Tensor]:
    """Mean and scale of each coefficient over all images and blocks, float32 (channel,).

    The scale is the standard deviation, but at least 1/32 of the largest distance from the mean: few bits leave
    coefficients that are 0 nearly everywhere, whose rare values would drown all others. 1 for a constant.
    """
    channels = images.shape[1]
    total, squares = torch.zeros(2, channels, dtype=torch.float64)
    least, most = torch.full((channels,), torch.inf), torch.full((channels,), -torch.inf)
    # Relative to typical values: a mean far from 0 would drown the variance.
    origin = images.batch(np.arange(min(_BATCH, len(images)))).double().mean((0, 2, 3))
    for indices in torch.arange(len(images)).split(_BATCH):
        values = images.batch(indices.numpy()).permute(0, 2, 3, 1).reshape(-1, channels)
        least, most = torch.minimum(least, values.amin(0)), torch.maximum(most, values.amax(0))
        centred = values.double() - origin
        total += centred.sum(0)
        squares += centred.square_().sum(0)
    number = len(images) * images.shape[2] * images.shape[3]
    shift = total / number
    mean = origin + shift
    farthest = torch.maximum(most - mean, mean - least)
    scale = torch.maximum((squares / number - shift.square()).clamp(min=0).sqrt(), farthest / _FARTHEST)
    return mean.float(), torch.where(least < most, scale, 1.0).float()
