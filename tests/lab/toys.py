"""Small models and data for tests of the lab."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from remnant.lab.compress import Context, take_part
from remnant.lab.compress.quantization import QuantizedLayer
from remnant.lab.data import Dataset, Split
from remnant.lab.train import normalize, take, train
from remnant.schemes import DynamicInt8, Float16, Scheme, StaticInt8
from remnant.trial import Recipe, Trial

SHAPE = (3, 8, 8)
NUM_CLASSES = 4
RECIPE = Recipe("toy", "toy", epochs=6, batch_size=32, learning_rate=0.1, schedule="constant")


QUANTIZATIONS: list[Scheme] = [
    Float16(),
    DynamicInt8(),
    DynamicInt8(per_channel=False),
    StaticInt8(),
    StaticInt8(per_channel=False),
]
INT8 = QUANTIZATIONS[1:]


class ResidualNet(nn.Module):
    """Convolutions with batch norm, a residual connection, a grouped convolution and a pre-activation norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.relu = nn.ReLU6()
        self.norm3 = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        a = functional.relu(self.norm1(self.stem(images)))
        b = functional.relu(self.norm2(self.conv(a)) + a)
        c = self.relu(self.depthwise(b))
        return self.head(self.norm3(c).mean((2, 3)))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 24), nn.ReLU(), nn.Dropout(0.1), nn.Linear(24, NUM_CLASSES))


MODELS: dict[str, Callable[[], nn.Module]] = {"mlp": mlp, "residual": ResidualNet}


def dataset(num_train: int = 400, num_test: int = 64) -> Dataset:
    """Pictures that are a pattern of their class plus noise."""
    rng = np.random.default_rng(0)
    patterns = rng.normal(0, 40, (NUM_CLASSES, *SHAPE))

    def split(name: str, number: int) -> Split:
        labels = rng.integers(0, NUM_CLASSES, number)
        images = np.clip(patterns[labels] + rng.normal(128, 40, (number, *SHAPE)), 0, 255).astype(np.uint8)
        ids = np.array([f"{name}-{i}" for i in range(number)])
        return Split(images=torch.from_numpy(images), labels=torch.from_numpy(labels), ids=ids, groups={})

    return Dataset(
        name="toy",
        train=split("train", num_train),
        test=split("test", num_test),
        classes=tuple("abcd"),
        mean=torch.tensor([0.5, 0.45, 0.4]),
        std=torch.full((3,), 0.2),
    )


def context(seed: int = 0) -> Context:
    data = dataset()
    return Context(RECIPE, data, np.arange(0, len(data.train.labels), 2), Trial(RECIPE, seed=seed).rng)


def built(name: str) -> nn.Module:
    """A model with the same first weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return MODELS[name]()


def trained(name: str, context: Context, scheme: Scheme | None = None) -> nn.Module:
    """A model after a short training in which a scheme may take part."""
    model = built(name)
    hook = None if scheme is None else take_part(scheme, model)
    with torch.random.fork_rng():
        torch.manual_seed(2)  # dropout
        return train(model, context.recipe, context.dataset, context.indices, context.rng, hook=hook)


@torch.inference_mode()
def answers(model: nn.Module, images: Tensor) -> np.ndarray:
    """The model's logits, in evaluation mode."""
    return model.eval()(images).numpy()


def sqnr(signal: np.ndarray, other: np.ndarray) -> float:
    """Signal to quantization noise in decibels."""
    return 10 * np.log10((signal**2).sum() / ((signal - other) ** 2).sum())


def quantized_layers(model: nn.Module) -> list[QuantizedLayer]:
    return [module for module in model.modules() if isinstance(module, QuantizedLayer)]


def evaluation_images(context: Context) -> Tensor:
    return normalize(context.dataset, take(context.dataset.test.images, torch.arange(64)))


def calibration_images(context: Context, number: int = 100) -> Tensor:
    return normalize(context.dataset, take(context.dataset.train.images, torch.from_numpy(context.indices[:number])))
