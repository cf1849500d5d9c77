"""The influence matrix: the published formulas beside ours, each in a process of its own, on the same random bits."""

import json
import os
import subprocess
import sys
from typing import Any

from benchmarks.row import PEAK_GIBIBYTES, Row
from remnant.engine import num_cores

_INPUTS = """
import json, sys, time
import numpy as np
rng = np.random.default_rng(0)
num_trials, num_train, num_examples = {trials}, {train}, {examples}
included = rng.integers(0, 256, (num_trials, -(-num_train // 8)), dtype=np.uint8)
correct = rng.integers(0, 256, (num_trials, -(-num_examples // 8)), dtype=np.uint8)
"""

_PUBLISHED = """
# Feldman & Zhang's estimator: masks and correctness in memory, two float32 products, the whole matrix.
correct, included = (np.unpackbits(bits, axis=1, count=count).view(bool)
                     for bits, count in ((correct, num_examples), (included, num_train)))

def masked_dot(x, mask):
    number = np.maximum(np.sum(mask, axis=0, keepdims=True).astype(np.float32), 1e-10)
    return (x.T.astype(np.float32) @ mask.astype(np.float32)) / number

start, used = time.perf_counter(), time.process_time()
found = masked_dot(correct, included) - masked_dot(correct, ~included)
"""

_OURS = """
from remnant.lab import influence as engine
from remnant.stats.packed_bits import PackedBits
correct, included = PackedBits(correct, num_examples), PackedBits(included, num_train)
few = [PackedBits(bits.bits[:, :8].copy(), 64) for bits in (correct, included)]
reducers = {{"top": engine.StrongestOnExamples(64, 64, 3), "z": engine.HistogramZ(np.linspace(-10, 10, 81))}}
engine.scan(*few, reducers, compiled={compiled})  # machine code is made once for each installation, or read
start, used = time.perf_counter(), time.process_time()
reducers = {{"top": engine.StrongestOnExamples(num_examples, num_train, 100), "pairs": engine.PairsAbove(0.15)}}
if {histogram}:
    reducers["z"] = engine.HistogramZ(np.linspace(-10, 10, 81))

def tell(done, total):
    if {progress} and (done % 16 == 0 or done == total):
        passed = time.perf_counter() - start
        print(f"{{done}} of {{total}} blocks, {{passed:.0f}} s of {{passed * total / done:.0f}} s", file=sys.stderr)

engine.scan(correct, included, reducers, compiled={compiled}, progress=tell)
"""

_REPORT = f"""
print(json.dumps([time.perf_counter() - start, time.process_time() - used, {PEAK_GIBIBYTES}]))
"""


def influences(train: int = 50_000) -> list[Row]:
    """50,000 training x 10,000 test examples, 2,000 trials: top-100 of each test example and all pairs >= 0.15.

    With the passes that Numba compiles, with them and the histogram of z, and without Numba.
    """
    size = {"trials": 2000, "train": train, "examples": 10_000}
    published = _run(_PUBLISHED, size)
    rows = []
    for more in ("", ", with the histogram of z", ", without Numba"):
        ours = _run(_OURS, size, histogram="histogram" in more, compiled="Numba" not in more, progress=False)
        name = f"influence {train:,} x 10,000, t=2,000{more}"
        for place, what, unit, goal in (
            (0, "time", "s", "none" if more else ">= 20 times as fast"),
            (1, "processor time", "s", "none"),
            (2, "memory", "GiB", "none" if more else "<= 1/20"),
        ):
            ratio = published[place] / ours[place]
            met = goal == "none" or ratio >= 20
            rows.append(Row(f"{name}, {what}", ours[place], unit, goal, met, published[place], ratio))
    return rows


def imagenet(train: int = 1_281_167) -> list[Row]:
    """1,281,167 training x 50,000 test examples, 2,000 trials; with fewer training examples, of those only."""
    size = {"trials": 2000, "train": train, "examples": 50_000}
    name = f"influence {train:,} x 50,000, t=2,000"
    seconds, processor, memory = _run(_OURS, size, histogram=False, compiled=True, progress=True)
    goal = "<= 900 s on 2 cores" if train == 1_281_167 else "none"
    return [
        Row(f"{name}, time", seconds, "s", goal, goal == "none" or seconds <= 900),
        Row(f"{name}, processor time", processor, "s", "none", True),
        Row(f"{name}, memory", memory, "GiB", "<= 4 GiB", memory <= 4),
    ]


def _run(code: str, size: dict[str, int], **options: Any) -> list[float]:
    """Seconds, processor seconds and peak GiB; imports and the making of inputs are in the memory only."""
    script = _INPUTS.format(**size) + (code.format(**options) if options else code) + _REPORT
    cores = str(num_cores())
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), cores)
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(run.stdout.strip().splitlines()[-1])
