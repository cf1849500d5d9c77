"""Trained models and raw images, ready to be asked about any codec setting."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from remnant.codecs import Codec, parse
from remnant.codecs.codec import image_shape
from remnant.codecs.distortion import distortion
from remnant.codecs.sizes import Size, sizes

if TYPE_CHECKING:
    from remnant.lab.decoded import Material

RAW = "raw"
"""Label of the side with images as they are."""
MODEL = "a store (`--store DIR`) or models, each a file or a reference such as 'model.onnx'"


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A codec setting with what it leaves of the images, and what the models make of them."""

    codec: Codec
    sizes: tuple[Size, ...]
    """Of the test images, by accounting."""
    psnr: float
    """In dB, of the mean squared error over all images; inf without loss."""
    ssim: float
    """Mean over images."""
    logits: NDArray[np.floating]
    """Shape (model, example, class)."""

    def size(self, accounting: str) -> Size:
        """The size under one accounting."""
        return next(size for size in self.sizes if size.accounting == accounting)

    def record(self) -> dict[str, Any]:
        """Plain values, as the analysis "decoding" reads them."""
        number, *shape = self.sizes[0].shape
        return {
            "scheme": self.codec.label,
            "codec": self.codec.kind,
            "images": number,
            "values": number * int(np.prod(shape)),
            "bytes": {size.accounting: size.bytes for size in self.sizes},
            "psnr": self.psnr,
            "ssim": self.ssim,
        }


@dataclass(frozen=True, eq=False)
class Bench:
    """Models, raw images, and the settings that were evaluated already."""

    material: "Material"
    evaluated: dict[str, Evaluated] = field(default_factory=dict)
    """By label of the codec."""

    def right(self, logits: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which answers are right, shape (model, example)."""
        return logits.argmax(axis=2) == self.material.data.labels

    @cached_property
    def raw(self) -> NDArray[np.floating]:
        """Logits on the images as they are, shape (model, example, class)."""
        return _asked(self.material, self.material.images)

    def evaluate(self, codec: Codec) -> Evaluated:
        """The setting, encoded, decoded and shown to every model; computed once."""
        if codec.label not in self.evaluated:
            raw = self.material.images
            encoded = codec.encode(raw)
            shown = encoded.decode()
            apart = distortion(raw, shown, window=min(7, (min(raw.shape[1:3]) - 1) // 2 * 2 + 1))
            self.evaluated[codec.label] = Evaluated(
                codec, sizes(encoded), apart.data_set_psnr, apart.mean_ssim, _asked(self.material, shown)
            )
        return self.evaluated[codec.label]

    def check(self, codecs: Iterable[Codec]) -> None:
        """ValueError, naming the codec, unless each can store these images."""
        for codec in codecs:
            try:
                codec.check(image_shape(self.material.images))
            except ValueError as error:
                raise ValueError(f"{codec.label} cannot store {self.material.data.name!r}: {error}") from error


def bench(
    models: Sequence[Any] = (),
    *,
    store: str | None = None,
    data: str | None = None,
    preprocessing: Any = None,
    root: str | None = None,
    limit: int | None = None,
    train_images: int = 0,
) -> Bench:
    """Models and the images of a data set.

    Parameters
    ----------
    models
        References (`remnant.references.FORMS`), torch modules or functions of a batch.
    store
        Instead: all dense models of a store, which know their data and preprocessing.
    data
        Data set of pictures with splits train and test (`remnant list datasets`); default that of the store.
    preprocessing
        How `models` want pictures, as of `remnant.lab.foreign.predict`.
    root
        Folder of the data.
    limit
        Take only so many test examples, evenly spaced.
    train_images
        Random training images on which batch-norm statistics can be estimated again.

    Raises
    ------
    ValueError, OSError
        If there is no model, or data and models do not fit together.
    """
    if bool(models) == (store is not None):
        raise ValueError(f"Expected {MODEL}, but got {'both' if models else 'neither'}.")
    for name, value, least in (("limit", limit, 2), ("train_images", train_images, 0)):
        if value is not None and (type(value) is not int or value < least):
            raise ValueError(f"Expected `{name}` to be a whole number >= {least}, but got {value!r}.")
    if store is None and data is None:
        raise ValueError("Expected `data`, the data set that the models are asked about, but got none.")
    from remnant.lab import decoded

    if store is not None:
        if preprocessing is not None:
            raise ValueError("Expected no `preprocessing` with a store, whose models have that of their training.")
        found, dataset = decoded.of_store(store, data, root)
    else:
        from remnant.lab.data import load

        dataset = load(str(data), root)
        named = zip(_names(models), models, strict=True)
        found = [decoded.Subject(name, name, model, preprocessing) for name, model in named]
    return Bench(decoded.material(found, dataset, limit=limit, train_images=train_images))


def settings(codecs: Sequence[str | Codec]) -> list[Codec]:
    """Codecs from their labels, such as "jpeg(quality=50)", each once.

    Raises
    ------
    ValueError
        If there is none, one is unknown or has a parameter that it does not take.
    """
    found = [parse(codec) if isinstance(codec, str) else codec for codec in codecs]
    if not found:
        raise ValueError("Expected at least one codec, such as 'jpeg(quality=50)', but got none.")
    return list({codec.label: codec for codec in found}.values())


def _names(models: Sequence[Any]) -> list[str]:
    short = [str(m) if isinstance(m, str) else getattr(m, "__name__", type(m).__name__) for m in models]
    return [f"{name} ({short[:i].count(name) + 1})" if name in short[:i] else name for i, name in enumerate(short)]


def _asked(material: "Material", shown: NDArray[np.uint8]) -> NDArray[np.floating]:
    from remnant.lab.decoded import logits

    return np.stack([logits(model, shown) for model in material.models])
