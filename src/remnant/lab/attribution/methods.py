"""Maps of which pixels the logit of a class hangs on: (model, inputs, classes) -> (example, row, column).

Logits, not probabilities, which do not move where a model is sure. Maps are summed over channels.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from remnant.lab.attribution.gradients import input_gradients

_BATCH = 256
"""Pictures that go through a model together."""
_POOLING = (
    nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d, nn.FractionalMaxPool2d,
)  # fmt: skip


def saliency(model: nn.Module, inputs: Tensor, classes: np.ndarray) -> Tensor:
    """Absolute gradient of the logit, summed over channels; never below 0.

    References
    ----------
    simonyan2014deep, section 3 (there the maximum over channels)
    """
    return input_gradients(model, inputs, classes).abs().sum(1)


def integrated_gradients(model: nn.Module, inputs: Tensor, classes: np.ndarray, *, steps: int) -> Tensor:
    """Contribution of each pixel to the logit, against that of a picture of the mean colour, summed over channels.

    (x - x') times the mean gradient on the line from x' to x, at `steps` points (Gauss-Legendre). Up to the error of
    these, a map adds up to the difference of the two logits. Above 0: speaks for the class.

    References
    ----------
    sundararajan2017axiomatic, equation 1
    """
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(model)
    parts = []
    for part, target in _parts(inputs, classes, max(1, _BATCH // steps)):
        parts.append(method.attribute(part.requires_grad_(), target=target, n_steps=steps).detach().sum(1))
    return torch.cat(parts).float()


def smoothgrad(
    model: nn.Module, inputs: Tensor, classes: np.ndarray, *, samples: int, noise: float, draw: Callable[[int], Tensor]
) -> Tensor:
    """Absolute value of the mean gradient over noisy copies of a picture, summed over channels; never below 0.

    Parameters
    ----------
    noise
        Standard deviation of the noise as a share of the picture's range.
    draw
        Standard normal numbers of the shape (samples, *shape of a picture) for the picture of that place.

    References
    ----------
    smilkov2017smoothgrad, section 3
    """
    spread = noise * (inputs.flatten(1).amax(1) - inputs.flatten(1).amin(1))
    maps = []
    for place, picture in enumerate(inputs):
        noisy = picture[None] + spread[place] * draw(place).to(picture)
        repeated = np.repeat(classes[place : place + 1], samples)
        maps.append(input_gradients(model, noisy, repeated).mean(0).abs().sum(0))
    return torch.stack(maps)


def grad_cam(model: nn.Module, inputs: Tensor, classes: np.ndarray) -> Tensor | None:
    """Activations of the last layer that still has pixels, weighted by their mean gradients; never below 0.

    ReLU(sum over channels k of mean gradient k times activation k), enlarged to the picture's size (bilinear). 0
    everywhere where no activation speaks for the class. The layer is the last one whose output has more than one row
    and column, pooling left out: the same place in a model and its compressed ones. None if there is no such layer.

    References
    ----------
    selvaraju2017grad, equations 1 and 2
    """
    from captum.attr import LayerAttribution, LayerGradCam

    layer = last_pixels(model, inputs[:1])
    if layer is None:
        return None
    method = LayerGradCam(model, layer)
    shape = (int(inputs.shape[2]), int(inputs.shape[3]))
    parts = []
    for part, target in _parts(inputs, classes, _BATCH):
        found = method.attribute(part.requires_grad_(), target=target, relu_attributions=True)
        assert isinstance(found, Tensor)
        parts.append(LayerAttribution.interpolate(found.detach(), shape, "bilinear")[:, 0])
    return torch.cat(parts)


def last_pixels(model: nn.Module, example: Tensor) -> nn.Module | None:
    """The module, not a pooling one, that ends last of those whose output has several rows or columns."""
    ended: list[nn.Module] = []

    def record(module: nn.Module, args: object, output: object) -> None:
        is_map = isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1
        if is_map and not isinstance(module, (*_POOLING, nn.Identity, nn.Dropout, nn.Dropout2d)):
            ended.append(module)

    handles = [module.register_forward_hook(record) for module in model.modules()]
    try:
        with torch.no_grad():
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    return ended[-1] if ended else None


def occlusion(model: nn.Module, inputs: Tensor, classes: np.ndarray, *, square: float) -> Tensor:
    """How far the logit falls when a square of the mean colour hides part of a picture.

    A pixel has the mean over the squares that cover it. It needs no gradients: it is what the model does, also with
    int8 arithmetic. Below 0: hiding raises the logit.

    Parameters
    ----------
    square
        Side of the square as a share of the picture's sides; it moves by half of that.

    References
    ----------
    zeiler2014visualizing, section 4.2
    """
    from captum.attr import Occlusion

    method = Occlusion(model)
    channels, *sides = (int(size) for size in inputs.shape[1:])
    window = [max(1, round(square * side)) for side in sides]
    strides = [max(1, side // 2) for side in window]
    parts = []
    with torch.no_grad():
        for part, target in _parts(inputs, classes, 64):
            found = method.attribute(
                part,
                sliding_window_shapes=(channels, *window),
                strides=(channels, *strides),
                target=target,
                perturbations_per_eval=max(1, _BATCH // len(part)),
            )
            parts.append(found[:, 0])  # the same for all channels
    return torch.cat(parts).float()


def reduced(maps: Tensor, resolution: int) -> Tensor:
    """Maps averaged over blocks of pixels to at most `resolution` rows and columns."""
    shape = (min(resolution, int(maps.shape[1])), min(resolution, int(maps.shape[2])))
    return maps if tuple(maps.shape[1:]) == shape else functional.adaptive_avg_pool2d(maps[:, None], shape)[:, 0]


def _parts(inputs: Tensor, classes: np.ndarray, size: int) -> list[tuple[Tensor, Tensor]]:
    targets = torch.from_numpy(classes.astype(np.int64)).to(inputs.device)
    return [
        (part.detach().clone(), target) for part, target in zip(inputs.split(size), targets.split(size), strict=True)
    ]
