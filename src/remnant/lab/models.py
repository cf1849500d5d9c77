"""Networks by name: built-in families, torchvision's models and a user's function."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from remnant.lab import cifar_networks as cifar
from remnant.lab.coefficients.networks import for_coefficients
from remnant.registry import find, unknown, user_object


@dataclass(frozen=True)
class Family:
    """Architectures whose names share a pattern, such as resnet20 and resnet56."""

    syntax: str
    """How users write it."""
    pattern: str
    """Regular expression of the same; its named groups are the numbers that `function` is called with."""
    function: Callable[..., nn.Module]
    """Called as function(input_shape, num_classes, **numbers)."""
    examples: tuple[str, ...]
    """Names that users know; one of them is proposed for a typing error."""
    summary: str
    """One line for listings."""
    smallest: int
    """Least height and width of a picture; 0 if inputs need not be pictures."""


def build(architecture: str, input_shape: Sequence[int], num_classes: int, rng: np.random.Generator) -> nn.Module:
    """The network called `architecture` with weights drawn from `rng`; `ARCHITECTURES` lists what there is.

    It maps a batch (example, *input_shape) to logits (example, num_classes). Global random state is
    neither used nor changed. A user's function is called as function(input_shape=..., num_classes=...)
    and returns a torch module.

    Raises
    ------
    UnknownNameError
        With the nearest name.
    ValueError
        If the network cannot take the inputs, or gives something else than logits.
    """
    shape = tuple(int(size) for size in input_shape)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        for family in FAMILIES:
            if (match := re.fullmatch(family.pattern, architecture)) is not None:
                _check_inputs(architecture, shape, family.smallest)
                return family.function(shape, num_classes, **_numbers(match))
        model = _foreign(architecture, shape, num_classes)
        _check_logits(model, architecture.removeprefix("given:"), shape, num_classes)
    return model


def mlp(input_shape: Sequence[int], num_classes: int, *, widths: Sequence[int] = (128, 64)) -> nn.Module:
    """Fully connected network on flattened inputs with ReLU between its layers."""
    sizes = [int(np.prod(input_shape)), *widths]
    layers: list[nn.Module] = [nn.Flatten()]
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], num_classes))


def cnn(input_shape: Sequence[int], num_classes: int, *, width: int = 16) -> nn.Module:
    """Small convolutional network for CPUs: three 3x3 convolutions with batch norm, then one linear layer.

    `width`, 2 `width` and 4 `width` channels. Each convolution halves the picture, from 16 pixels on
    (only the second one below that), so that little work is done on many pixels.
    """
    channels, *sides = input_shape
    strides = (2, 2, 2) if min(sides) >= 16 else (1, 2, 1)
    layers: list[nn.Module] = []
    for stage, stride in enumerate(strides):
        wide = width * 2**stage
        layers += [nn.Conv2d(channels, wide, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-3].weight, mode="fan_out", nonlinearity="relu")  # pyright: ignore
        channels, sides = wide, [-(-side // stride) for side in sides]
    if max(sides) > 4:
        layers.append(nn.AdaptiveAvgPool2d(4))
        sides = [4, 4]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * sides[0] * sides[1], num_classes))


_FAMILIES = (
    Family(
        "mlp[-WIDTH...]", r"mlp(?P<widths>(?:-\d+)*)", mlp, ("mlp", "mlp-256-128"),
        "fully connected, hidden layers of 128 and 64 or as named; any inputs", 0,
    ),
    Family(
        "cnn[-WIDTH]", r"cnn(?:-(?P<width>\d+))?", cnn, ("cnn", "cnn-32"),
        "three convolutions with batch norm for CPUs, 16 channels in the first or as named", 4,
    ),
    Family(
        "lean-resnet[-WIDTH]", r"lean-resnet(?:-(?P<width>\d+))?", cifar.lean_resnet, ("lean-resnet", "lean-resnet-64"),
        "residual network for CPUs that halves the picture at once, 32 channels in the first stage or as named", 4,
    ),
    Family(
        "resnetDEPTH[-WIDTH]", r"resnet(?P<depth>\d+)(?:-(?P<width>\d+))?", cifar.resnet,
        ("resnet8", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
        "ResNet for CIFAR, 6n + 2 layers, 16 channels in the first stage or as named; shortcuts without parameters", 4,
    ),
    Family(
        "wide-resnet-DEPTH-FACTOR", r"wide-resnet-(?P<depth>\d+)-(?P<factor>\d+)", cifar.wide_resnet,
        ("wide-resnet-16-4", "wide-resnet-28-10", "wide-resnet-40-2"),
        "wide ResNet for CIFAR, 6n + 4 layers", 4,
    ),
    Family(
        "densenet-DEPTH-GROWTH", r"densenet-(?P<depth>\d+)-(?P<growth>\d+)", cifar.densenet,
        ("densenet-40-12", "densenet-100-12"), "DenseNet for CIFAR, 3n + 4 layers", 4,
    ),
    Family(
        "densenet-bc-DEPTH-GROWTH", r"densenet-bc-(?P<depth>\d+)-(?P<growth>\d+)",
        partial(cifar.densenet, bottleneck=True), ("densenet-bc-100-12", "densenet-bc-190-40"),
        "DenseNet-BC for CIFAR, 6n + 4 layers", 4,
    ),
    Family(
        "resnextDEPTH[-CARDINALITYxWIDTHd]", r"resnext(?P<depth>\d+)(?:-(?P<cardinality>\d+)x(?P<width>\d+)d)?",
        cifar.resnext, ("resnext20", "resnext29-8x64d", "resnext29-16x64d"),
        "ResNeXt for CIFAR, 9n + 2 layers; without cardinality the narrow one of Group Sparsity", 4,
    ),
    Family(
        "vggDEPTH-bn[-WIDTH]", r"vgg(?P<depth>\d+)-bn(?:-(?P<width>\d+))?", cifar.vgg,
        tuple(f"vgg{depth}-bn" for depth in cifar.VGG_STAGES),
        "VGG for CIFAR with batch norm and one linear layer, 11, 13, 16 or 19 layers, "
        "64 channels in the first stage or as named", 32,
    ),
)  # fmt: skip

FAMILIES = (
    *_FAMILIES,
    # "mlp", "cnn" and "lean-resnet" fit themselves to their inputs.
    *(
        replace(
            family,
            syntax=f"coefficient-{family.syntax}",
            pattern=f"coefficient-{family.pattern}",
            function=for_coefficients(family.function),
            examples=tuple(f"coefficient-{example}" for example in family.examples),
            summary=f"{family.syntax} for coefficients of 4x4 or 8x8 blocks, with so much less halving of the picture",
            smallest=1,
        )
        for family in _FAMILIES[3:]
    ),
)

ARCHITECTURES: dict[str, str] = {family.syntax: family.summary for family in FAMILIES} | {
    "torchvision:NAME": "a classification model of torchvision, without its weights, such as torchvision:resnet50",
    "package.module:function": "your own function(input_shape=..., num_classes=...) that returns a torch module",
}
"""How an architecture is written, to what it is."""


def _foreign(architecture: str, shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """A model of torchvision, of a user's function or of an installed package."""
    kind, _, name = architecture.partition(":")
    if kind == "given" and name:
        return _given(name, shape, num_classes)
    if kind == "torchvision" and name:
        return _torchvision(name, shape, num_classes)
    if name:
        function = user_object(architecture)
    else:
        examples = [example for family in FAMILIES for example in family.examples]
        function = find("architecture", architecture, dict.fromkeys([*examples, *list(ARCHITECTURES)[-2:]]))
    if not callable(function):
        raise ValueError(f"Expected {architecture!r} to be a function, but it is of type {type(function).__name__}.")
    try:
        model = function(input_shape=shape, num_classes=num_classes)
    except TypeError as error:
        raise ValueError(
            f"Calling {architecture!r} as function(input_shape={shape}, num_classes={num_classes}) failed: {error}."
        ) from error
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"Expected {architecture!r} to return a torch.nn.Module, but it returned {type(model).__name__}."
        )
    return model


def _given(reference: str, shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """A trained model from a file or a function, with its weights; see `remnant.references.FORMS`."""
    from remnant.lab.foreign.opening import open_model

    found = open_model(reference, num_classes=num_classes, channels=shape[0])
    if found.module is None or found.kind in ("onnx", "pt2", "torchscript"):
        raise ValueError(
            f"Expected a torch.nn.Module whose layers can be compressed, but {reference!r} is of the kind "
            f"{found.kind!r}. Name it as package.module:function@FILE, torchvision:NAME@FILE, timm:NAME@FILE or "
            "pickle:FILE."
        )
    return found.module


def _torchvision(name: str, shape: tuple[int, ...], num_classes: int) -> nn.Module:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise unknown("architecture", f"torchvision:{name}", [f"torchvision:{model}" for model in known])
    if len(shape) != 3 or shape[0] != 3:
        raise ValueError(
            f"Expected pictures with 3 channels for 'torchvision:{name}', but the inputs have the shape {shape}. "
            "Take another architecture, or write your own function."
        )
    # These two also return a second head's logits while they train, unless told not to.
    options = {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, weights=None, num_classes=num_classes, **options)


def _numbers(match: re.Match[str]) -> dict[str, Any]:
    given = {name: text for name, text in match.groupdict().items() if text}
    found = {name: tuple(int(number) for number in re.findall(r"\d+", text)) for name, text in given.items()}
    if any(0 in numbers for numbers in found.values()):
        raise ValueError(f"Expected positive numbers in the name of an architecture, but got {match.string!r}.")
    return {name: numbers if name == "widths" else numbers[0] for name, numbers in found.items()}


def _check_inputs(architecture: str, shape: tuple[int, ...], smallest: int) -> None:
    if smallest and (len(shape) != 3 or min(shape[1:]) < smallest):
        raise ValueError(
            f"Expected pictures (channels, height, width) of at least {smallest}x{smallest} pixels for "
            f"{architecture!r}, but the inputs have the shape {shape}. Take another architecture, such as 'mlp'."
        )


def _check_logits(model: nn.Module, architecture: str, shape: tuple[int, ...], num_classes: int) -> None:
    """A forward pass on noise, in evaluation mode, gives (example, num_classes) numbers."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            output = model(torch.randn(2, *shape))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ValueError(
            f"{architecture!r} cannot take inputs of shape (2, {', '.join(map(str, shape))}): {error}"
        ) from error
    for module, mode in modes.items():
        module.training = mode
    if not isinstance(output, torch.Tensor):
        raise ValueError(
            f"Expected {architecture!r} to return logits of shape (2, {num_classes}) for 2 examples, "
            f"but it returned {_described(output)}. Return the logits alone."
        )
    if tuple(output.shape) != (2, num_classes) or not output.is_floating_point():
        raise ValueError(
            f"Expected {architecture!r} to return floating-point logits of shape (2, {num_classes}) for 2 examples, "
            f"but got {output.dtype} of shape {tuple(output.shape)}. Use `num_classes` for its last layer."
        )


def _described(output: Any) -> str:
    if isinstance(output, dict):
        return f"a dict with the keys {list(output)}"
    if isinstance(output, list | tuple):
        return f"a {type(output).__name__} of {len(output)}"
    return f"a {type(output).__name__}"
