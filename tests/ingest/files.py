"""Small valid files of predictions in every format, as any tool could have written them."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import safetensors.numpy

CLASSES = ["ant", "bee", "cat"]
ROWS = 12


def answers(seed: int = 0) -> dict[str, Any]:
    """Columns of a model's answers on 12 examples of 3 classes."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(ROWS, 3)).astype(np.float32)
    return {
        "id": np.arange(100, 100 + ROWS),
        "logits": logits,
        "label": np.arange(ROWS) % 3,
        "site": np.array(["A", "B"] * (ROWS // 2)),
    }


def table(columns: dict[str, Any]) -> pa.Table:
    """The columns as an Arrow table; arrays with two axes become columns of lists."""
    made = {}
    for name, values in columns.items():
        made[name] = pa.array(list(values) if getattr(values, "ndim", 1) == 2 else values)
    return pa.table(made)


def flat(columns: dict[str, Any]) -> dict[str, Any]:
    """Scores as one column per class."""
    rest = {name: values for name, values in columns.items() if name != "logits"}
    return rest | {f"logit_{c}": columns["logits"][:, c] for c in range(columns["logits"].shape[1])}


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(columns: dict[str, Any], *, compressed: bool = False) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **columns)
    return stream.getvalue()


def csv(columns: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    pyarrow.csv.write_csv(table(columns), stream)
    return stream.getvalue()


def parquet(columns: dict[str, Any] | pa.Table) -> bytes:
    stream = io.BytesIO()
    pyarrow.parquet.write_table(columns if isinstance(columns, pa.Table) else table(columns), stream)
    return stream.getvalue()


def jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def rows(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """The columns as one object per example."""
    listed = {name: np.asarray(values).tolist() for name, values in columns.items()}
    return [dict(zip(listed, line, strict=True)) for line in zip(*listed.values(), strict=True)]


def sample(number: int, likelihoods: list[float], target: Any, **more: Any) -> dict[str, Any]:
    """A sample as lm-evaluation-harness 0.4.3 to 0.4.13 logs it (read in `evaluator.py` and `evaluation_tracker.py`
    of its releases: every number a string, arguments as an object)."""
    options = [f" option {i}" for i in range(len(likelihoods))]
    right = int(np.argmax(likelihoods)) == target
    return {
        "doc_id": number,
        "doc": {"question": f"Question {number}?", "subject": ["law", "art"][number % 2]},
        "target": str(target),
        "arguments": {
            f"gen_args_{i}": {"arg_0": f"Question {number}?\nAnswer:", "arg_1": option}
            for i, option in enumerate(options)
        },
        "resps": [[[str(value), "False"]] for value in likelihoods],
        "filtered_resps": [[str(value), "False"] for value in likelihoods],
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": f"{number:064x}",
        "prompt_hash": "0" * 64,
        "target_hash": "0" * 64,
        "acc": 1.0 if right else 0.0,
        **more,
    }


def samples(seed: int = 0, number: int = 8) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [sample(i, (-10 * rng.random(3)).tolist(), i % 3) for i in range(number)]


def valid(seed: int = 0) -> dict[str, bytes]:
    """File name to bytes, one or more of every format."""
    columns = answers(seed)
    named = columns | {"label": np.array(CLASSES)[columns["label"]], "classes": np.array(CLASSES)}
    numeric = {name: values for name, values in columns.items() if name != "site"}
    texts = [row | {"text": f"text {i} \u202e", "options": CLASSES} for i, row in enumerate(rows(columns))]
    return {
        "scores.npy": npy(columns["logits"]),
        "answers.npy": npy(columns["label"]),
        "plain.npz": npz(columns),
        "named.npz": npz(named, compressed=True),
        "plain.safetensors": safetensors.numpy.save(numeric, {"classes": json.dumps(CLASSES)}),
        "plain.csv": csv(flat(columns)),
        "labels.csv": csv({"id": columns["id"].astype(str), "prediction": named["label"], "label": named["label"]}),
        "plain.tsv": csv({"id": columns["id"], "prediction": columns["label"]}).replace(b",", b"\t"),
        "plain.csv.gz": gzip.compress(csv(flat(columns)), mtime=0),
        "plain.parquet": parquet(columns),
        "flat.parquet": parquet(flat(columns) | {"text": ["a", "b"] * (ROWS // 2)}),
        "plain.jsonl": jsonl(texts),
        "plain.json": json.dumps(rows(columns)).encode(),
        "plain.jsonl.gz": gzip.compress(jsonl(rows(columns)), mtime=0),
        "samples.jsonl": jsonl(samples(seed)),
    }


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path
