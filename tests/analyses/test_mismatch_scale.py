"""Time and memory of the ledger of flips at the size of ImageNet and of ten million labels."""

import time
import tracemalloc

import numpy as np
import pytest
import xarray as xr

from remnant.analyses.mismatches import run

MEBIBYTE = 2**20


def pair(variables, num_examples, num_classes):
    return xr.Dataset(
        variables,
        coords={
            "trial": ["net/0", "net-int8/0"],
            "scheme": ("trial", ["net", "net-int8"]),
            "seed": ("trial", [0, 0]),
            "subset": ("trial", [-1, -1]),
            "example": np.arange(num_examples),
            "class": [str(c) for c in range(num_classes)],
        },
        attrs={"reference": "net"},
    )


def best_seconds(population):
    """Of three runs, of this process alone: the machine may be busy."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        run(population)
        seconds.append(time.process_time() - start)
    return min(seconds)


def peak_mebibytes(population):
    tracemalloc.start()
    run(population)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / MEBIBYTE


@pytest.mark.slow
def test_fifty_thousand_examples_of_a_thousand_classes():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 1000, 50_000).astype(np.int16)
    logits = np.empty((2, 50_000, 1000), np.float16)
    for start in range(0, 50_000, 5000):
        signal = rng.standard_normal((5000, 1000), np.float32)
        signal[np.arange(5000), label[start : start + 5000]] += rng.uniform(0, 8, 5000)
        logits[0, start : start + 5000] = signal
        logits[1, start : start + 5000] = signal + 0.5 * rng.standard_normal((5000, 1000), np.float32)
    found = pair({"logits": (("trial", "example", "class"), logits), "label": ("example", label)}, 50_000, 1000)
    assert peak_mebibytes(found) <= 50
    assert best_seconds(found) <= 3


@pytest.mark.slow
def test_ten_million_labels():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 10, 10_000_000).astype(np.int8)
    answers = np.where(rng.random((2, 10_000_000)) < 0.9, label, rng.integers(0, 10, (2, 10_000_000)))
    variables = {"prediction": (("trial", "example"), answers.astype(np.int8)), "label": ("example", label)}
    found = pair(variables, 10_000_000, 10)
    assert peak_mebibytes(found) <= 150
    assert best_seconds(found) <= 3
