"""Learning from coefficients: how fast they are made, and what networks on them cost beside networks on pixels."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.row import Row
from remnant.lab.coefficients import Coefficients, Dct, JpegDct, Zfp
from remnant.lab.models import build

NUMBER = 60_000
BATCH = 128


def extraction() -> list[Row]:
    """Coefficients of 60,000 32x32x3 images, beside a call of a codec's Python package for each image.

    Images come in batches of 128, as training asks for them, and coefficients are let go before the next batch, as
    are those of the baselines. These are measured on 3,000 images and taken times 20: zfpy must compress and
    decompress (its coefficients cannot be had), and jpeglib read what Pillow has written to a file in memory.
    """
    images = _photographs(NUMBER)
    rows = []
    for transform, mode in ((Zfp(precision=4), {"precision": 4}), (Zfp(precision=8), {"precision": 8}),
                            (Zfp(rate=2.5), {"rate": 2.5})):  # fmt: skip
        ours = _seconds(lambda transform=transform: _each(transform, images))
        baseline = 20 * _seconds(lambda mode=mode: _zfpy(images[:3000], **mode))
        goal, met = ("", True) if "rate" in mode else (">= 20x one zfpy call per image", baseline / ours >= 20)
        rows.append(Row(f"coefficients, {transform.name}", ours, "s", goal, met, baseline, baseline / ours))
    baseline = 20 * _seconds(lambda: _jpeglib(images[:3000]))
    for transform in (JpegDct(75), Dct(4), Dct(8)):
        ours = _seconds(lambda transform=transform: _each(transform, images))
        beside = baseline if isinstance(transform, JpegDct) else None
        rows.append(
            Row(f"coefficients, {transform.name}", ours, "s", "", True, beside, beside and beside / ours),
        )
    return rows


def learning() -> list[Row]:
    """A training step and an inference of ResNet-20 from coefficients, beside decoding and the pixels' network.

    Batches of 128 at precision 6. Ours: coefficients from bytes in memory, and the network on 8x8 blocks. The
    baseline: zfpy decodes each image, and the same network sees 32x32 pixels. Memory is what a training step keeps
    for its backward pass, inputs and all.
    """
    images, labels = _photographs(BATCH), torch.arange(BATCH) % 10
    transform = Zfp(precision=6)
    streams = _streams(images, precision=6)
    inputs: dict[str, Callable[[], Tensor]] = {
        "coefficient-resnet20": lambda: transform(images) / 64,
        "resnet20": lambda: _decoded(streams) / 64,
    }
    training, inference, memory = {}, {}, {}
    for name, make in inputs.items():
        shape = tuple(make().shape[1:])
        model = build(name, shape, 10, np.random.default_rng(0)).to(memory_format=torch.channels_last)  # pyright: ignore
        training[name] = _seconds(lambda model=model, make=make: _step(model.train(), make(), labels), 7)
        memory[name] = _kept(model, make(), labels)
        model.eval()
        with torch.inference_mode():
            inference[name] = _seconds(lambda model=model, make=make: model(make()), 7)
    rows = []
    for what, found, unit in (
        ("training step", training, "s"),
        ("inference", inference, "s"),
        ("memory", memory, "MiB"),
    ):
        ours, baseline = found["coefficient-resnet20"], found["resnet20"]
        name = f"ResNet-20 from coefficients, {what}"
        rows.append(Row(name, ours, unit, "less than from decoded pixels", ours < baseline, baseline, baseline / ours))
    return rows


def _photographs(number: int) -> Tensor:
    """uint8 (number, 3, 32, 32), random cuts of scikit-learn's sample images; channels last in memory."""
    rng = np.random.default_rng(0)
    first, second = load_sample_images().images
    windows = [np.lib.stride_tricks.sliding_window_view(source, (32, 32), (0, 1)) for source in (first, second)]
    cuts = []
    for source in windows:
        rows, columns = (rng.integers(0, source.shape[axis], -(-number // 2)) for axis in (0, 1))
        cuts.append(source[rows, columns])
    pictures = torch.from_numpy(np.concatenate(cuts)[:number])
    return pictures.contiguous(memory_format=torch.channels_last)


def _streams(images: Tensor, **mode: float) -> list[bytes]:
    import zfpy

    planes = images.float().contiguous().view(len(images), -1, images.shape[3]).numpy()
    return [zfpy.compress_numpy(image, **mode) for image in planes]


def _decoded(streams: list[bytes]) -> Tensor:
    import zfpy

    stacked = torch.from_numpy(np.stack([zfpy.decompress_numpy(stream) for stream in streams]))
    pixels = stacked.view(len(streams), 3, -1, stacked.shape[2])
    return pixels.contiguous(memory_format=torch.channels_last)


def _each(transform: Coefficients, images: Tensor) -> None:
    for batch in images.split(BATCH):
        transform(batch)


def _zfpy(images: Tensor, **mode: float) -> None:
    for start in range(0, len(images), BATCH):
        _decoded(_streams(images[start : start + BATCH], **mode))


def _jpeglib(images: Tensor) -> None:
    import tempfile

    import jpeglib
    from PIL import Image

    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        for image in images.permute(0, 2, 3, 1).numpy():
            Image.fromarray(image).save(file.name, "JPEG", quality=75, subsampling=0)
            jpeglib.read_dct(file.name)


def _step(model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    functional.cross_entropy(model(inputs), labels).backward()
    model.zero_grad()


def _kept(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """MiB that autograd keeps for the backward pass, each memory once, parameters left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = functional.cross_entropy(model.train()(inputs), labels)
    total = sum(kept.values()) / 2**20
    del loss
    return total


def _seconds(work: Callable[[], object], repetitions: int = 3) -> float:
    """The median after one run that warms up."""
    work()
    found = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return statistics.median(found)
