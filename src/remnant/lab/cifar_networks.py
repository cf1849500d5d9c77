"""The networks of the literature on 32x32 images; they take other sizes too.

Convolutions have no bias where a norm follows, weights start as He et al. (2015) draw them, and
every activation is a module of its own, so that attribution methods can hook into it.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Shape = tuple[int, ...]
"""(channels, height, width)."""


def resnet(input_shape: Shape, num_classes: int, *, depth: int, width: int = 16) -> nn.Module:
    """Residual network for CIFAR: 6n + 2 layers, three stages of `width`, 2 and 4 `width` channels.

    Shortcuts have no parameters (option A): every second pixel, and zeros for the new channels.

    References
    ----------
    he2016deep, section 4.2
    """
    if depth in (18, 34, 50, 101, 152):
        raise ValueError(
            f"The ResNet-{depth} of ImageNet is 'torchvision:resnet{depth}'; for CIFAR take 20, 56 or 110."
        )
    blocks = _whole(depth - 2, 6, f"resnet{depth}", "6n + 2 layers, such as 8, 20, 32, 44, 56 or 110")
    layers: list[nn.Module] = [_conv(input_shape[0], width), nn.BatchNorm2d(width), nn.ReLU()]
    channels = width
    for stage in range(3):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(BasicBlock(channels, width * 2**stage, stride))
            channels = width * 2**stage
    return _started(nn.Sequential(*layers, *_head(channels, num_classes)))


def wide_resnet(input_shape: Shape, num_classes: int, *, depth: int, factor: int) -> nn.Module:
    """Wide residual network WRN-`depth`-`factor`: 6n + 4 layers, norms before convolutions, no dropout.

    References
    ----------
    zagoruyko2016wide, table 1
    """
    blocks = _whole(depth - 4, 6, f"wide-resnet-{depth}-{factor}", "6n + 4 layers, such as 16, 22, 28 or 40")
    layers: list[nn.Module] = [_conv(input_shape[0], 16)]
    channels = 16
    for stage in range(3):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(PreactivationBlock(channels, 16 * factor * 2**stage, stride))
            channels = 16 * factor * 2**stage
    return _started(nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), *_head(channels, num_classes)))


def resnext(
    input_shape: Shape, num_classes: int, *, depth: int, cardinality: int | None = None, width: int | None = None
) -> nn.Module:
    """ResNeXt for CIFAR: 9n + 2 layers in three stages of blocks with grouped convolutions.

    With cardinality C and width W, the network of Xie et al.: stages of 256, 512 and 1024 channels
    around C groups of W, 2W and 4W. Without them, the narrow network of the Group Sparsity code that
    Dam et al. compress with: 32 groups of 1, 2 and 4 channels in stages of 64, 128 and 256.

    References
    ----------
    xie2017aggregated, section 5.3; li2020group, published code
    """
    blocks = _whole(depth - 2, 9, f"resnext{depth}", "9n + 2 layers, such as 20, 29 or 164")
    outputs = 64 if cardinality is None else 256
    groups, width = cardinality or 32, width or 1
    layers: list[nn.Module] = [_conv(input_shape[0], 64), nn.BatchNorm2d(64), nn.ReLU()]
    channels = 64
    for stage in range(3):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(GroupedBlock(channels, groups * width * 2**stage, outputs * 2**stage, groups, stride))
            channels = outputs * 2**stage
    return _started(nn.Sequential(*layers, *_head(channels, num_classes)))


def densenet(input_shape: Shape, num_classes: int, *, depth: int, growth: int, bottleneck: bool = False) -> nn.Module:
    """DenseNet for CIFAR: three blocks in which every layer sees all layers before it.

    With `bottleneck`, DenseNet-BC: 1x1 convolutions of 4 `growth` channels before the 3x3 ones, and
    half the channels from block to block.

    References
    ----------
    huang2017densely, section 3
    """
    name = f"densenet-{'bc-' if bottleneck else ''}{depth}-{growth}"
    divisor, allowed = (6, "6n + 4 layers, such as 40, 100 or 190") if bottleneck else (3, "3n + 4 layers, such as 40")
    count = _whole(depth - 4, divisor, name, allowed)
    channels = 2 * growth if bottleneck else 16
    layers: list[nn.Module] = [_conv(input_shape[0], channels)]
    for block in range(3):
        for _ in range(count):
            layers.append(DenseLayer(channels, growth, bottleneck))
            channels += growth
        if block < 2:
            fewer = channels // 2 if bottleneck else channels
            layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, fewer, 1, bias=False), nn.AvgPool2d(2)]
            channels = fewer
    model = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), *_head(channels, num_classes))
    # The other mode would multiply what a layer sees, which is much more than what it adds.
    return _started(model, "fan_in")


VGG_STAGES: dict[int, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


def vgg(input_shape: Shape, num_classes: int, *, depth: int, width: int = 64) -> nn.Module:
    """VGG with batch norm for CIFAR: the convolutions of Simonyan & Zisserman, then one linear layer.

    Stages of `width`, 2, 4, 8 and 8 `width` channels.

    References
    ----------
    simonyan2015very, table 1
    """
    if depth not in VGG_STAGES:
        raise ValueError(f"Expected VGG with {list(VGG_STAGES)} layers, but got 'vgg{depth}-bn'.")
    layers: list[nn.Module] = []
    channels = input_shape[0]
    for stage, count in enumerate(VGG_STAGES[depth]):
        wide = min(width * 2**stage, 8 * width)
        for _ in range(count):
            layers += [_conv(channels, wide), nn.BatchNorm2d(wide), nn.ReLU()]
            channels = wide
        layers.append(nn.MaxPool2d(2))
    return _started(nn.Sequential(*layers, *_head(channels, num_classes)))


def lean_resnet(input_shape: Shape, num_classes: int, *, width: int = 32) -> nn.Module:
    """Residual network for CPUs (ours): `width`, 2 and 4 `width` channels, most of its work at 1/2 and 1/4 resolution.

    The first convolution (4x4) halves the picture, from 16 pixels on: at full resolution norms and activations
    wait for memory. At 1/8 there is one convolution only: gradients of weights are slow on so few pixels. Blocks
    with norm and ReLU before the sum, and the greatest value of each channel at the end, are those of Page.

    References
    ----------
    page2018train, part 4
    """
    halves = min(input_shape[1:]) >= 16
    first = nn.Conv2d(input_shape[0], width, 4 if halves else 3, stride=2 if halves else 1, padding=1, bias=False)
    layers: list[nn.Module] = [first, nn.BatchNorm2d(width), nn.ReLU(), AddedBlock(width, 1)]
    for wide, count in ((2 * width, 2), (4 * width, 0)):
        layers += [_conv(wide // 2, wide, stride=2), nn.BatchNorm2d(wide), nn.ReLU()]
        layers += [AddedBlock(wide, count)] if count else []
    return _started(nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4 * width, num_classes)))


class AddedBlock(nn.Module):
    """3x3 convolutions with norm and ReLU, and their input added to what they give."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        layers = [(_conv(channels, channels), nn.BatchNorm2d(channels), nn.ReLU()) for _ in range(count)]
        self.body = nn.Sequential(*(layer for three in layers for layer in three))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut without parameters."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1, self.relu1 = _conv(channels, width, stride=stride), nn.BatchNorm2d(width), nn.ReLU()
        self.conv2, self.norm2, self.relu2 = _conv(width, width), nn.BatchNorm2d(width), nn.ReLU()
        self.stride, self.added = stride, width - channels

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        if self.stride > 1:
            x = functional.avg_pool2d(x, 1, self.stride)  # every second pixel; unlike a slice it keeps channels last
        if self.added > 0:
            x = functional.pad(x, (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))
        return self.relu2(out + x)


class PreactivationBlock(nn.Module):
    """Norm and ReLU before each of two 3x3 convolutions; a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.relu1, self.conv1 = nn.BatchNorm2d(channels), nn.ReLU(), _conv(channels, width, stride=stride)
        self.norm2, self.relu2, self.conv2 = nn.BatchNorm2d(width), nn.ReLU(), _conv(width, width)
        same = channels == width and stride == 1
        self.shortcut = None if same else nn.Conv2d(channels, width, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu1(self.norm1(x))
        if self.shortcut is not None:
            x = self.shortcut(active)
        return x + self.conv2(self.relu2(self.norm2(self.conv1(active))))


class GroupedBlock(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolution around a shortcut; a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, inner: int, outer: int, groups: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1, self.relu1 = nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()
        self.conv2 = _conv(inner, inner, stride=stride, groups=groups)
        self.norm2, self.relu2 = nn.BatchNorm2d(inner), nn.ReLU()
        self.conv3, self.norm3, self.relu3 = nn.Conv2d(inner, outer, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()
        self.shortcut = nn.Sequential()
        if channels != outer or stride > 1:
            self.shortcut.append(nn.Conv2d(channels, outer, 1, stride=stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.norm1(self.conv1(x)))
        out = self.relu2(self.norm2(self.conv2(out)))
        return self.relu3(self.norm3(self.conv3(out)) + self.shortcut(x))


class DenseLayer(nn.Module):
    """The input with `growth` new channels behind it."""

    def __init__(self, channels: int, growth: int, bottleneck: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.BatchNorm2d(channels), nn.ReLU()]
        if bottleneck:
            inner = 4 * growth
            layers += [nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()]
            channels = inner
        self.new = nn.Sequential(*layers, _conv(channels, growth))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.new(x)], dim=1)


def _conv(channels: int, width: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, 3, stride=stride, padding=1, groups=groups, bias=False)


def _head(channels: int, num_classes: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]


def _started(model: nn.Module, mode: Literal["fan_in", "fan_out"] = "fan_out") -> nn.Module:
    """The model with the first weights of He et al. (2015) in its convolutions."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
    return model


def _whole(layers: int, divisor: int, name: str, allowed: str) -> int:
    """layers / divisor, which must be a whole number >= 1."""
    if layers < divisor or layers % divisor:
        raise ValueError(f"Expected {allowed}, but got {name!r}.")
    return layers // divisor
