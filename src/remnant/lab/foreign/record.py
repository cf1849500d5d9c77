"""Where answers come from and what they cost, as plain values."""

import hashlib
from pathlib import Path
from typing import Any

from remnant.lab.foreign.evaluation_sets import EvaluationData
from remnant.lab.foreign.model import ForeignModel, state_bytes, state_hash
from remnant.lab.foreign.running import Answers, Steps


def record(
    model: ForeignModel, data: EvaluationData, steps: Steps, answers: Answers, *, threads: int
) -> dict[str, Any]:
    """The provenance of predictions: model, data, preprocessing, cost; nothing but text, numbers, lists and dicts.

    `sha256` is that of the model's file, of the list of its files if there are several, or of the weights of
    a module in memory; "" for a function. `bytes` are those of the weights' files, or of the weights in memory.
    """
    files = [{"name": path.name, "bytes": path.stat().st_size, "sha256": _sha256(path)} for path in model.files]
    size = _size(model)
    first = next(iter(() if model.module is None else model.module.parameters()), None)
    return {
        "kind": "model",
        "name": model.name,
        "sha256": _digest(model, files),
        "bytes": size,
        "model": {"form": model.kind, "files": files, **model.details},
        "data": {"name": data.name, "fingerprint": data.fingerprint, "examples": len(data)},
        "preprocessing": "texts as they are" if steps is None else str(steps),
        "device": "cpu" if first is None else str(first.device),
        "cost": {
            "bytes": size,
            "bytes_of": "files" if files else "weights in memory",
            "parameters": model.parameters,
            "latency": answers.latency,
            "latency_batch_size": answers.batch_size,
            "threads": threads,
        },
    }


def _digest(model: ForeignModel, files: list[dict[str, Any]]) -> str:
    if len(files) == 1:
        return str(files[0]["sha256"])
    if files:
        return hashlib.sha256("\n".join(f"{f['sha256']} {f['name']}" for f in files).encode()).hexdigest()
    return "" if model.module is None else state_hash(model.module)


def _size(model: ForeignModel) -> int | None:
    if model.files:
        return sum(path.stat().st_size for path in model.files if path.suffix not in (".json", ".txt"))
    return None if model.module is None else state_bytes(model.module)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
