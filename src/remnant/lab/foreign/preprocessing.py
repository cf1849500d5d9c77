"""How pictures become a model's inputs, as a value that is written down and recorded."""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Channels = Literal["same", "RGB", "BGR", "grey"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]


@dataclass(frozen=True)
class Preprocessing:
    """Steps from pictures of 0..255 to inputs: resize, crop, channels, range, mean and std, layout, in this order.

    Float arrays are taken as they are: they are never resized, and `range` does not scale them.
    """

    resize: tuple[int, ...] | None = None
    """(side,) brings the shorter side to that many pixels, (height, width) both; None leaves it."""
    crop: tuple[int, int] | None = None
    """Height and width that are cut from the middle."""
    mean: tuple[float, ...] = ()
    """Taken off each channel, in units of `range`; one value stands for all channels, none for 0."""
    std: tuple[float, ...] = ()
    """Each channel is divided by it after that; one value stands for all channels, none for 1."""
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    """Order of the axes: example, channel, height, width."""
    range: Literal["0..1", "0..255"] = "0..1"
    """What black and white are before `mean` is taken off."""
    channels: Channels = "same"
    """ "same" leaves them; "RGB" repeats grey three times; "BGR" also turns the order round; "grey" is luma."""
    interpolation: Interpolation = "bilinear"
    """Filter of `resize`, as Pillow knows it: antialiased."""

    def __post_init__(self) -> None:
        if any(value == 0 for value in self.std):
            raise ValueError(f"Expected `std` other than 0, but got {self.std}.")
        for name in ("resize", "crop"):
            sides = getattr(self, name)
            if sides is not None and not all(0 < side <= 16384 for side in sides):
                raise ValueError(f"Expected `{name}` of 1 to 16384 pixels, but got {sides}.")
        for name, hint in _CHOICES.items():
            if getattr(self, name) not in hint:
                raise ValueError(f"Expected `{name}` to be one of {list(hint)}, but got {getattr(self, name)!r}.")

    def __str__(self) -> str:
        """The text that `parse_preprocessing` turns into this value again."""
        parts = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                joint = "x" if field.name in ("resize", "crop") else ","
                parts.append(f"{field.name}={joint.join(map(_number, value)) if isinstance(value, tuple) else value}")
        return ",".join(parts) or "none"


_CHOICES = {
    "layout": ("NCHW", "NHWC"),
    "range": ("0..1", "0..255"),
    "channels": get_args(Channels),
    "interpolation": get_args(Interpolation),
}

IMAGENET = Preprocessing((256,), (224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), channels="RGB")
"""What most models trained on ImageNet expect: the constants of torchvision's reference."""

PRESETS: dict[str, str] = {
    "dataset": "mean and std of the data's own training pictures, as models that remnant trained expect",
    "imagenet": "256 pixels on the shorter side, the middle 224x224, mean and std of ImageNet",
    "none": "pixels as 0..1",
    "model": "what the model's own files say (hf:, timm:)",
}
"""Word to what it stands for."""

KEYS: dict[str, str] = {
    "size": "size=224, both sides",
    "resize": "resize=256 for the shorter side, resize=256x192 for height and width",
    "crop": "crop=224 or crop=224x192, from the middle",
    "mean": "mean=0.5 or mean=0.48,0.45,0.40",
    "std": "std=0.5 or std=0.22,0.22,0.22",
    **{key: f"{key}={' or '.join(values)}" for key, values in _CHOICES.items()},
}
"""Key of a written preprocessing to how it is used."""


def parse_preprocessing(
    text: str, *, dataset: Preprocessing | None = None, model: Preprocessing | None = None
) -> Preprocessing:
    """The preprocessing that `text` describes: a preset, `key=value` pairs, or both as in "imagenet,channels=BGR".

    `dataset` and `model` are what those presets stand for here; None if there is no such thing.

    Raises
    ------
    ValueError
        With all presets and keys.
    """
    found = Preprocessing()
    for position, (key, value) in enumerate(_pairs(text)):
        if not value:
            if position or key not in PRESETS:
                raise ValueError(f"Expected a preset or `key=value` in `preprocessing`, but got {key!r}. {_help()}")
            found = _preset(key, dataset, model)
        elif key not in KEYS:
            raise ValueError(f"Expected a known key in `preprocessing`, but got {key!r} in {text!r}. {_help()}")
        else:
            found = replace(found, **_field(key, value))
    return found


def apply(steps: Preprocessing, pictures: Tensor | list[np.ndarray]) -> Tensor:
    """The model's inputs from a batch: uint8 or float (example, channel, height, width), features, or uint8 pictures.

    Pictures of a list are (height, width, channel) and may differ in size; float32 comes back.

    Raises
    ------
    ValueError
        If the pictures still differ in size, or `mean` and `std` fit neither one nor all channels.
    """
    images = _sized(steps, pictures)
    if images.ndim != 4:
        return _normalized(steps, images)
    images = _normalized(steps, _coloured(steps, images))
    return images.permute(0, 2, 3, 1).contiguous() if steps.layout == "NHWC" else images


def _normalized(steps: Preprocessing, images: Tensor) -> Tensor:
    """One multiplication and one addition, as remnant's own models see their inputs."""
    unit = 255.0 if images.dtype == torch.uint8 and steps.range == "0..1" else 1.0
    channels = images.shape[1]
    for name, values in (("mean", steps.mean), ("std", steps.std)):
        if len(values) not in (0, 1, channels):
            raise ValueError(
                f"Expected one value in `{name}` or one for each of the {channels} channels, but got {len(values)}. "
                "Grey pictures become three channels with channels=RGB."
            )
    mean, std = torch.tensor(steps.mean or (0.0,)), torch.tensor(steps.std or (1.0,))
    shape = (1, -1) + (1,) * (images.ndim - 2)
    normal = images.float()
    if steps.mean or steps.std or unit != 1:
        normal = normal.mul((1 / (unit * std)).view(shape)).add_((-mean / std).view(shape))
    return normal.contiguous()


def _coloured(steps: Preprocessing, images: Tensor) -> Tensor:
    channels = images.shape[1]
    if steps.channels in ("RGB", "BGR"):
        if channels not in (1, 3):
            raise ValueError(f"Expected pictures with 1 or 3 channels for {steps.channels}, but they have {channels}.")
        images = images.expand(-1, 3, -1, -1) if channels == 1 else images
        return images.flip(1) if steps.channels == "BGR" and channels == 3 else images
    if steps.channels == "grey" and channels == 3:
        # The integer weights of Pillow's convert("L").
        luma = torch.tensor([19595.0, 38470.0, 7471.0]).view(1, 3, 1, 1)
        grey = (images.double() * luma).sum(1, keepdim=True)
        if images.dtype == torch.uint8:
            return torch.floor((grey + 0x8000) / 65536).to(torch.uint8)
        return (grey / 65536).to(images.dtype)
    return images


def _sized(steps: Preprocessing, pictures: Tensor | list[np.ndarray]) -> Tensor:
    if isinstance(pictures, Tensor) and (pictures.dtype != torch.uint8 or pictures.ndim != 4):
        if steps.resize or steps.crop:
            raise ValueError("Expected pictures of uint8 to resize or crop, but the data are float arrays or features.")
        return pictures
    if isinstance(pictures, Tensor) and not steps.resize:
        return pictures if steps.crop is None else _cropped(pictures, steps.crop)
    rows = list(pictures.permute(0, 2, 3, 1).numpy()) if isinstance(pictures, Tensor) else pictures
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        done = list(pool.map(lambda picture: _fitted(steps, picture), rows))
    shapes = {picture.shape for picture in done}
    if len(shapes) > 1:
        raise ValueError(
            f"Expected pictures of one size and colour, but they still differ after preprocessing: "
            f"{sorted(shapes)[:3]}. "
            "Add for example resize=256,crop=224,channels=RGB to `preprocessing`."
        )
    return torch.from_numpy(np.stack(done)).permute(0, 3, 1, 2)


def _fitted(steps: Preprocessing, picture: np.ndarray) -> np.ndarray:
    """One picture resized and cropped by Pillow, which torchvision, timm and transformers use as well."""
    height, width = picture.shape[:2]
    if steps.resize:
        if len(steps.resize) == 2:
            height, width = steps.resize
        else:
            scale = steps.resize[0] / min(height, width)
            height, width = (
                steps.resize[0] if side == min(height, width) else int(side * scale) for side in (height, width)
            )
        filter_ = Image.Resampling[steps.interpolation.upper()]
        image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
        picture = np.asarray(image.resize((width, height), filter_)).reshape(height, width, -1)
    if picture.shape[2] == 1 and steps.channels in ("RGB", "BGR"):
        picture = np.repeat(picture, 3, axis=2)
    if steps.crop:
        picture = _cropped(torch.from_numpy(picture.copy()).permute(2, 0, 1), steps.crop).permute(1, 2, 0).numpy()
    return picture


def _cropped(images: Tensor, sides: tuple[int, int]) -> Tensor:
    """The middle of (..., height, width), with black around pictures that are smaller."""
    lacking = [max(0, side - have) for side, have in zip(sides, images.shape[-2:], strict=True)]
    if any(lacking):
        down, right = lacking
        images = torch.nn.functional.pad(images, (right // 2, -(-right // 2), down // 2, -(-down // 2)))
    # Halves are rounded as torchvision's center_crop does.
    top, left = (round((have - side) / 2.0) for have, side in zip(images.shape[-2:], sides, strict=True))
    return images[..., top : top + sides[0], left : left + sides[1]]


def _pairs(text: str) -> list[tuple[str, str]]:
    """Keys and values; a piece without "=" after the first belongs to the value before it."""
    found: list[tuple[str, str]] = []
    for piece in text.split(","):
        key, equals, value = piece.strip().partition("=")
        if equals:
            found.append((key.strip(), value.strip() or "?"))
        elif found and found[-1][1]:
            found[-1] = (found[-1][0], f"{found[-1][1]},{key}")
        else:
            found.append((key, ""))
    return found


def _preset(name: str, dataset: Preprocessing | None, model: Preprocessing | None) -> Preprocessing:
    known = {"imagenet": IMAGENET, "none": Preprocessing(), "dataset": dataset, "model": model}[name]
    if known is None:
        what = (
            "the data have no training pictures"
            if name == "dataset"
            else "the model's files do not say what it expects"
        )
        raise ValueError(f"Preprocessing {name!r} cannot be used: {what}. {_help()}")
    return known


def _field(key: str, value: str) -> dict[str, Any]:
    try:
        if key in ("size", "resize", "crop"):
            sides = tuple(int(side) for side in value.split("x"))
            if len(sides) not in (1, 2):
                raise ValueError
            return {"resize" if key == "size" else key: sides if key == "resize" or len(sides) == 2 else sides * 2}
        if key in ("mean", "std"):
            return {key: tuple(float(number) for number in value.split(","))}
    except ValueError:
        raise ValueError(f"Expected {KEYS[key]} in `preprocessing`, but got {key}={value!r}.") from None
    return {key: value}


def _help() -> str:
    presets = "; ".join(f"{name!r}: {meaning}" for name, meaning in PRESETS.items())
    return f"Presets are {presets}. Keys are {'; '.join(KEYS.values())}."


def _number(value: float) -> str:
    return repr(value) if isinstance(value, int) else f"{value:.9g}"
