"""Size, agreement and time of a dense model and its compressed forms in ONNX Runtime, as compression.md shows them.

python docs/results/onnx_times.py STORE IMAGES "static-int8" "dynamic-int8" ...    DATA in REMNANT_DATA

Files take raw pixels and run on one thread. Times are medians over rounds in which every file takes its turn, so that
ratios hold on a busy machine.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from remnant.lab import export, probe
from remnant.lab.compress import Context, compress
from remnant.lab.dataset import Split, take
from remnant.lab.foreign.onnx_files import open_onnx
from remnant.lab.given import normalization
from remnant.lab.run import dataset_of, load_model, reproducible
from remnant.schemes import Dense
from remnant.schemes.parsing import parse_scheme
from remnant.store import Store

ROUNDS = 200


def main(root: str, images: str, *labels: str) -> None:
    store = Store(root)
    dense = min((t for t in store.trials() if t.scheme == Dense() and t.subset is None), key=lambda t: t.seed)
    dataset, model = dataset_of(dense, store), load_model(dense, store)
    number = int(images)
    test = Split(dataset.test.images[:number], dataset.test.labels[:number], dataset.test.ids[:number])  # pyright: ignore
    context = Context(dense.recipe, dataset, np.arange(len(dataset.train.labels)), dense.rng)
    pixels = take(test.images, torch.arange(number)).float().contiguous()
    files, lines = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("dense", *labels):
            made = model if name == "dense" else compress(parse_scheme(name), model, context)
            path = Path(folder, f"{len(files)}.onnx")
            export.to_onnx(made, dataset.input_shape, path, normalize=normalization(dataset))
            files[name] = open_onnx(path, threads=1)
            simulated = probe.logits(made, dataset, test).argmax(1)
            answers = np.concatenate([np.asarray(files[name].answer(part)).argmax(1) for part in pixels.split(100)])
            lines[name] = (
                f"{path.stat().st_size:,} bytes, {int((answers == simulated).sum())} of {number} answers equal"
            )
        for size in (1, 32):
            taken = seconds(files, pixels[:size])
            for name, values in taken.items():
                ratio = np.median(taken["dense"] / values)
                lines[name] += f"; batch of {size}: {1e6 * values.min() / size:.0f} us at least, {ratio:.2f}x"
    for name, line in lines.items():
        print(f"{name}: {line}")


def seconds(files: dict, batch: Tensor) -> dict[str, np.ndarray]:
    """Time of a batch in each file, by rounds; the first ten warm up."""
    taken = {name: np.zeros(ROUNDS) for name in files}
    for turn in range(-10, ROUNDS):
        for name, file in files.items():
            start = time.perf_counter()
            file.answer(batch)
            if turn >= 0:
                taken[name][turn] = time.perf_counter() - start
    return taken


if __name__ == "__main__":
    with reproducible():
        main(*sys.argv[1:])
