"""Two models that others made: what `remnant compare` takes for large files of predictions."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.row import PEAK_GIBIBYTES, Row


def compare() -> list[Row]:
    """50,000 examples x 1,000 classes of float16 logits a side, and 10 million rows of answers, with the reports."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _logits(folder)
        seconds, memory = _run([folder / "reference.npz", folder / "compressed.npz"], folder / "report")
        _answers(folder)
        rows_seconds, rows_memory = _run([folder / "reference.parquet", folder / "compressed.parquet"], folder / "rows")
    return [
        Row("compare 50,000 x 1,000 float16, time", seconds, "s", "<= 15 s with the report", seconds <= 15),
        Row("compare 50,000 x 1,000 float16, memory", memory, "GiB", "<= 1.5 GiB", memory <= 1.5),
        Row(
            "compare 10 million rows of answers, time", rows_seconds, "s", "<= 30 s with the report", rows_seconds <= 30
        ),
        Row("compare 10 million rows of answers, memory", rows_memory, "GiB", "none", True),
    ]


def _run(files: list[Path], out: Path) -> tuple[float, float]:
    """Seconds and peak GiB of the command in a process of its own."""
    code = (
        "import time; start = time.perf_counter()\n"
        "from remnant.cli import main\n"
        f"main(['compare', *{[str(file) for file in files]!r}, '--out', {str(out)!r}, '--json'])\n"
        f"print(time.perf_counter() - start, {PEAK_GIBIBYTES})"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    seconds, memory = run.stdout.strip().splitlines()[-1].split()
    return float(seconds), float(memory)


def _logits(folder: Path, num_examples: int = 50_000, num_classes: int = 1_000) -> None:
    """A reference that is right on 76 % of the examples, and the same with noise."""
    rng = np.random.default_rng(0)
    label = rng.integers(num_classes, size=num_examples)
    logits = rng.normal(0, 1, (num_examples, num_classes)).astype(np.float32)
    logits[np.arange(num_examples), label] += 4.2
    for name, noise in (("reference", 0.0), ("compressed", 0.3)):
        noisy = logits + noise * rng.normal(0, 1, logits.shape).astype(np.float32) if noise else logits
        np.savez(folder / name, ids=np.arange(num_examples), logits=noisy.astype(np.float16), label=label)


def _answers(folder: Path, num_rows: int = 10_000_000, num_classes: int = 10) -> None:
    rng = np.random.default_rng(0)
    ids = np.arange(num_rows)
    label = rng.integers(num_classes, size=num_rows)
    answer = np.where(rng.random(num_rows) < 0.9, label, rng.integers(num_classes, size=num_rows))
    for name, share in (("reference", 0.0), ("compressed", 0.03)):
        changed = np.where(rng.random(num_rows) < share, rng.integers(num_classes, size=num_rows), answer)
        pq.write_table(pa.table({"id": ids, "label": label, "prediction": changed}), folder / f"{name}.parquet")
