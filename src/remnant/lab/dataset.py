"""What a data set is: images, labels, stable ids and attribute columns of its two splits."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor


class ImageSource(Protocol):
    """Images that are decoded when they are asked for, because all together do not fit in memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(number of images, channels, height, width)."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digits that change when the images change."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> Tensor:
        """The inputs at `indices`: uint8 images (len(indices), channels, height, width), or float32."""
        ...


@runtime_checkable
class ComputedInputs(Protocol):
    """An image source whose inputs are computed from images, such as transform coefficients."""

    @property
    def images(self) -> "Images":
        """What the inputs are computed from."""
        ...

    def compute(self, images: Tensor) -> Tensor:
        """The inputs of some images."""
        ...


Images = Tensor | ImageSource
"""uint8 (example, channel, height, width), or float features (example, ...), in memory; or on disk."""


@dataclass(frozen=True, eq=False)
class Split:
    """The examples of one half of a data set, in their official order."""

    images: Images
    labels: Tensor
    """int64, index of the true class."""
    ids: np.ndarray
    """Unique names of the examples: they stay with an example however it is selected or ordered."""
    groups: dict[str, np.ndarray] = field(default_factory=dict)
    """Attribute columns by name, each with one value per example."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split with the same classes and the same shape of images."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: Tensor
    """Mean of each channel over the training images: of x / 255 for uint8, of x for float."""
    std: Tensor
    """Standard deviation beside `mean`; 1 where a channel is constant, so that it can be divided by."""

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(channels, height, width) of an image, or (features,)."""
        return tuple(self.train.images.shape[1:])

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change when an image, a label, an id, a class or their order changes.

        Attribute columns do not count. Of images on disk, file names and sizes count.
        """
        digest = hashlib.sha256("\0".join(self.classes).encode())
        for split in (self.train, self.test):
            digest.update(f"\0{tuple(split.images.shape)}".encode())
            if isinstance(split.images, Tensor):
                digest.update(str(split.images.dtype).encode())
                digest.update(_channels_last(split.images).numpy().data)
            else:
                digest.update(split.images.fingerprint.encode())
            digest.update(split.labels.contiguous().numpy().data)
            digest.update("\0".join(split.ids.tolist()).encode())
        return digest.hexdigest()[:16]


def take(images: Images, indices: Tensor | np.ndarray | Sequence[int]) -> Tensor:
    """The images at `indices`, from memory or from disk."""
    if not isinstance(images, Tensor):
        return images.batch(np.asarray(indices))
    indices = torch.as_tensor(indices)
    if images.ndim != 4:
        return images.index_select(0, indices)
    # Ours lie in memory channels-last: whole images are then copied at once, 15 times as fast as images[indices].
    return images.permute(0, 2, 3, 1).index_select(0, indices).permute(0, 3, 1, 2)


def assemble(
    name: str,
    train: Split,
    test: Split,
    classes: Sequence[str],
    *,
    moments: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Dataset:
    """The data set of two splits, checked; `moments` replaces the mean and std of the training images.

    Raises
    ------
    ValueError
        Saying what was expected and what came, for lengths, shapes, labels, classes, ids, and NaN
        or infinite values.
    """
    classes = tuple(str(c) for c in classes)
    if len(set(classes)) != len(classes):
        twice = sorted({c for c in classes if classes.count(c) > 1})
        raise ValueError(f"Expected distinct classes in {name!r}, but these come more than once: {twice}.")
    if len(classes) < 2:
        raise ValueError(
            f"Expected at least 2 classes in {name!r}, but got {list(classes)}: there is nothing to tell apart."
        )
    for part, split in (("train", train), ("test", test)):
        _check_split(f"{part} of {name!r}", split, classes)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"Expected images of one shape in {name!r}, but got {tuple(train.images.shape[1:])} in train "
            f"and {tuple(test.images.shape[1:])} in test."
        )
    absent = np.setdiff1d(np.arange(len(classes)), train.labels.numpy())
    if len(absent):
        raise ValueError(
            f"Expected training examples of every class of {name!r}, but these classes have none: "
            f"{[classes[i] for i in absent[:5]]} ({len(absent)} in all). Leave the class out, or add examples."
        )
    mean, std = _moments(train.images) if moments is None else (torch.tensor(moments[0]), torch.tensor(moments[1]))
    return Dataset(name, train, test, classes, mean, std)


def split(
    images: np.ndarray | ImageSource,
    labels: np.ndarray,
    ids: np.ndarray,
    groups: Mapping[str, np.ndarray] | None = None,
) -> Split:
    """A split from NumPy arrays; pictures as (example, height, width, channel), which is how they stay in memory."""
    if isinstance(images, np.ndarray):
        tensor = torch.from_numpy(images)
        images_ = tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor
    else:
        images_ = images
    return Split(images_, torch.from_numpy(np.asarray(labels, np.int64)), np.asarray(ids, np.str_), dict(groups or {}))


def positions(prefix: str, number: int) -> np.ndarray:
    """Ids by position: "prefix-00000", "prefix-00001", ..."""
    return np.array([f"{prefix}-{i:05d}" for i in range(number)], dtype=np.str_)


def _check_split(where: str, split: Split, classes: tuple[str, ...]) -> None:
    number = len(split.images)
    if number == 0:
        raise ValueError(f"Expected at least 1 example in {where}, but got none.")
    for what, values in {"labels": split.labels, "ids": split.ids, **split.groups}.items():
        if tuple(values.shape) != (number,):
            raise ValueError(
                f"Expected `{what}` to hold one value for each of the {number} images in {where}, "
                f"but got the shape {tuple(values.shape)}."
            )
    unique, counts = np.unique(split.ids, return_counts=True)
    if len(unique) != number:
        twice = unique[counts > 1]
        raise ValueError(f"Expected unique ids in {where}, but {len(twice)} come more than once: {twice[:5].tolist()}.")
    labels = split.labels.numpy()
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(wrong):
        raise ValueError(
            f"Expected labels in [0, {len(classes)}) in {where}, but {len(wrong)} lie outside "
            f"(value {labels[wrong[0]]} at {split.ids[wrong[0]].item()!r})."
        )
    if isinstance(split.images, Tensor) and split.images.is_floating_point():
        bad = np.flatnonzero(~torch.isfinite(split.images).flatten(1).all(1).numpy())
        if len(bad):
            raise ValueError(
                f"Expected finite inputs in {where}, but {len(bad)} examples hold NaN or infinity "
                f"(the first is {split.ids[bad[0]].item()!r})."
            )


def _channels_last(images: Tensor) -> Tensor:
    """Contiguous with the channels last, without a copy for images that `split` made."""
    return (images.permute(0, 2, 3, 1) if images.ndim == 4 else images).contiguous()


def _moments(images: Images) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel; of 1,000 evenly spaced images where they lie on disk."""
    if not isinstance(images, Tensor):
        images = images.batch(np.unique(np.linspace(0, len(images) - 1, 1000).astype(np.int64)))
    channels = images.shape[1]
    rows = _channels_last(images).flatten(1)
    number = rows.numel() / channels
    whole = images.dtype == torch.uint8

    def per_channel(sums: Tensor) -> Tensor:
        return sums.view(-1, channels).sum(0)

    # Sums of 256 squared bytes are exact in float32, which is fast: 256 * 255**2 < 2**24. Floats are
    # taken relative to a typical value: a mean far from 0 would drown their variance.
    typical = torch.zeros(channels) if whole else per_channel(rows[:256].double().mean(0)) * channels / rows.shape[1]
    origin = typical.repeat(rows.shape[1] // channels)
    total, squares = torch.zeros(2, rows.shape[1], dtype=torch.float64)
    values = torch.empty(256, rows.shape[1], dtype=torch.float32 if whole else torch.float64)
    for part in rows.split(256):
        values = values[: len(part)].copy_(part)
        if not whole:
            values -= origin
        total += values.sum(0)
        squares += values.square_().sum(0)
    shift = per_channel(total) / number
    mean = typical.double() + shift
    variance = per_channel(squares) / number - shift.square()
    # What is left of a constant channel's variance is rounding.
    constant = variance <= 1e-14 * mean.square()
    scale = 255.0 if whole else 1.0
    std = torch.where(constant, torch.ones_like(mean), variance.clamp(min=0).sqrt() / scale)
    return (mean / scale).float(), std.float()
