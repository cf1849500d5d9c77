"""Predictions made elsewhere: reading two files and matching their examples."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as parquet

from benchmarks.row import PEAK_GIBIBYTES, Row

ROWS = 10_000_000
SHAPE = (50_000, 1_000)


def files() -> list[Row]:
    """Two files of 10 million answers whose ids stand in another order, and two of 50,000 x 1,000 logits."""
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write_answers(root, rng)
        for end in ("csv", "parquet"):
            rows += _rows(f"read and match 2 x 10 million rows, {end}", root, end, seconds=15, memory=1.5)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for side in "ab":
            logits = rng.standard_normal(SHAPE, np.float32).astype(np.float16)
            np.save(root / f"{side}.npy", logits)
            np.savez(root / f"{side}.npz", logits=logits, id=np.arange(SHAPE[0]), label=np.arange(SHAPE[0]) % SHAPE[1])
        for end in ("npy", "npz"):
            rows += _rows(f"read and match 2 x 50,000 x 1,000 float16, {end}", root, end, seconds=2, memory=1)
    return rows


def _write_answers(root: Path, rng: np.random.Generator) -> None:
    label = rng.integers(0, 10, ROWS)
    for side in "ab":
        ids = np.arange(ROWS) if side == "a" else rng.permutation(ROWS)
        prediction = np.where(rng.random(ROWS) < 0.9, label, rng.integers(0, 10, ROWS))
        table = pa.table({"id": ids, "label": label[ids], "prediction": prediction[ids]})
        pyarrow.csv.write_csv(table, root / f"{side}.csv")
        parquet.write_table(table, root / f"{side}.parquet")


def _rows(name: str, root: Path, end: str, *, seconds: float, memory: float) -> list[Row]:
    """Time and memory of a fresh process, its imports left out of the time."""
    match = "position" if end == "npy" else "id"
    code = (
        "import time\n"
        "from remnant.ingest import population, read\n"
        "start = time.perf_counter()\n"
        f"sides = {{side: [read({str(root)!r} + '/' + side + '.{end}')] for side in 'ab'}}\n"
        f"people = population(sides, match={match!r})\n"
        f"print(time.perf_counter() - start, {PEAK_GIBIBYTES})"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    took, used = map(float, out.split())
    return [
        Row(f"{name}, time", took, "s", f"<= {seconds} s", took <= seconds),
        Row(f"{name}, memory", used, "GiB", f"<= {memory} GiB", used <= memory),
    ]
