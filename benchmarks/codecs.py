"""Data sets of images through codecs and containers: 60,000 images of 32x32x3, coded, decoded, looked up one by one."""

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.row import Row
from remnant.codecs import Codec, Jpeg, Png, ZfpAccuracy, ZfpPrecision, ZfpRate
from remnant.codecs.container import open_container
from remnant.codecs.container_writer import Examples, write

NUMBER = 60_000
SETTINGS: tuple[Codec, ...] = (
    Jpeg(quality=50),
    ZfpRate(4.0),
    ZfpPrecision(8),
    ZfpAccuracy(16.0),
    ZfpPrecision(8, layout="channels"),
    ZfpPrecision(8, layout="volume"),
    ZfpPrecision(8, layout="batch"),
)


def coding() -> list[Row]:
    """Encode and decode 60,000 images on all cores, beside one Pillow or zfpy call after another."""
    images = _images()
    rows = []
    for codec in SETTINGS:
        start = time.perf_counter()
        codec.encode(images).decode()
        seconds = time.perf_counter() - start
        baseline = _one_by_one(codec, images[:3000]) * len(images) / 3000
        name = f"encode + decode 60,000, {codec.label}"
        rows.append(Row(name, seconds, "s", "<= 30 s on 2 cores", seconds <= 30, baseline, seconds / baseline))
    return rows


def container() -> list[Row]:
    """Write, open and look up examples of a container of 60,000 images."""
    images = _images()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for codec in (Jpeg(quality=50), ZfpPrecision(8), ZfpPrecision(8, layout="batch"), Png()):
            part = images if codec.kind != "png" else images[:10_000]
            path = Path(folder, "images.rmn")
            write(path, [Examples(part, np.arange(len(part)) % 10, split="train")], codec)
            start = time.perf_counter()
            opened = open_container(path)
            seconds = time.perf_counter() - start
            if codec == Jpeg(quality=50):
                rows.append(Row("open a container of 60,000", seconds, "s", "<= 1 s", seconds <= 1))
            milliseconds = []
            for index in np.random.default_rng(0).integers(0, len(opened), 2000).tolist():
                start = time.perf_counter()
                opened[index]
                milliseconds.append(1000 * (time.perf_counter() - start))
            median = statistics.median(milliseconds)
            rows.append(Row(f"one example of a container, {codec.label}", median, "ms", "<= 1 ms", median <= 1))
    return rows


def _images() -> np.ndarray:
    """CIFAR-10 from REMNANT_DATA/cifar10.npz, else as many pieces of scikit-learn's sample photographs."""
    path = Path(os.environ.get("REMNANT_DATA", "."), "cifar10.npz")
    if path.is_file():
        with np.load(path) as arrays:
            return np.concatenate([arrays["train_images"], arrays["test_images"]])
    from sklearn.datasets import load_sample_images

    photographs = [np.asarray(image)[::2, ::2] for image in load_sample_images().images]
    rng = np.random.default_rng(0)
    images = np.empty((NUMBER, 32, 32, 3), np.uint8)
    for i in range(NUMBER):
        image = photographs[i % 2]
        top, left = rng.integers(0, image.shape[0] - 32), rng.integers(0, image.shape[1] - 32)
        images[i] = image[top : top + 32, left : left + 32]
    return images


def _one_by_one(codec: Codec, images: np.ndarray) -> float:
    """Seconds of the obvious loop: Pillow for JPEG, zfpy over height x width x channels for ZFP."""
    import io

    import zfpy
    from PIL import Image

    start = time.perf_counter()
    for image in images:
        if isinstance(codec, Jpeg):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=codec.quality)
            np.asarray(Image.open(file))
        elif isinstance(codec, ZfpRate | ZfpPrecision | ZfpAccuracy):
            stream = zfpy.compress_numpy(image.astype(np.float32), **codec.options())
            np.clip(np.rint(zfpy.decompress_numpy(stream)), 0, 255).astype(np.uint8)
    return time.perf_counter() - start
