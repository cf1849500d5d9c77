"""One file of predictions, of whatever format."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from remnant.ingest.arrays import read_npy, read_npz
from remnant.ingest.assemble import Request
from remnant.ingest.limits import Limits, printable
from remnant.ingest.lines import read_jsonl
from remnant.ingest.predictions import Predictions
from remnant.ingest.tables import read_csv, read_parquet
from remnant.ingest.tensors import read_safetensors

READERS: dict[str, Callable[[Path, Request, dict[str, Any]], Predictions]] = {
    ".npz": read_npz,
    ".npy": read_npy,
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".tsv": read_csv,
    ".tsv.gz": read_csv,
    ".parquet": read_parquet,
    ".jsonl": read_jsonl,
    ".jsonl.gz": read_jsonl,
    ".json": read_jsonl,
    ".json.gz": read_jsonl,
    ".safetensors": read_safetensors,
}
"""End of a file's name to its reader."""


def read(
    path: str | Path,
    *,
    scores: Literal["auto", "logits", "probabilities"] = "auto",
    names: Mapping[str, str] | None = None,
    classes: Sequence[str] | None = None,
    normalize: Literal["none", "characters", "bytes"] = "none",
    limits: Limits | None = None,
) -> Predictions:
    """One model's answers out of a file that any tool may have written. Nothing is ever unpickled.

    The end of the name says the format: .npz, .npy, .safetensors, .parquet, .csv or .tsv, .jsonl or .json (a list
    of objects; also logs that lm-evaluation-harness wrote with --log_samples), the last four also with .gz.

    Parameters
    ----------
    scores
        What the scores are. "auto" goes by their name in the file (`logits`, `probabilities`) and else by their
        values: probabilities if every row lies in [0, 1] and sums to 1.
    names
        Role to name, where the file uses names that are not known, as in {"id": "file", "label": "gold"}. Roles are
        id, logits, probabilities, scores, prediction, label, text, classes, options and content.
    classes
        Class names in the order of the scores or indices, where the file does not have them.
    normalize
        For logs of lm-evaluation-harness: divide log-likelihoods by the length of the answer option in
        "characters" (its `acc_norm`) or UTF-8 "bytes" (its `acc_bytes`); "none" is its `acc`.
    limits
        What a file may ask for before it is refused.

    Raises
    ------
    ValueError
        If the file is damaged, too large, or does not hold what it should; names the file, and the column and row
        where there is one.
    OSError
        If it cannot be opened.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist" if not path.exists() else "is not a file"
        raise FileNotFoundError(f"Expected a file of predictions, but {printable(path)} {what}.")
    reader = next((READERS[end] for end in sorted(READERS, key=len) if path.name.lower().endswith(end)), None)
    if reader is None:
        raise ValueError(f"Expected a file that ends in {', '.join(READERS)}, but got {printable(path.name)}.")
    request = Request(scores, names, classes, normalize, limits or Limits())
    try:
        source = {"kind": reader.__name__.removeprefix("read_"), "name": _name(path), **_digest(path)}
        return reader(path, request, source)
    except RecursionError as error:
        raise ValueError(f"Cannot read {printable(path)}: it is nested too deeply.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"Cannot read {printable(path)}: a string in it is not UTF-8.") from error
    except MemoryError as error:
        raise ValueError(
            f"Cannot read {printable(path)}: it needs more memory than there is. {error}".strip()
        ) from error
    except ValueError as error:
        raise ValueError(f"Cannot read {printable(path)}: {error}") from error


def _name(path: Path) -> str:
    """The file's name; bytes of it that are not UTF-8 as escapes."""
    return path.name.encode("utf-8", "backslashreplace").decode()


def _digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {"sha256": digest, "bytes": stream.tell()}
