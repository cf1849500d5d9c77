"""`.safetensors` files, read without torch: the header is checked before tensors are read."""

import json
import math
import os
from pathlib import Path
from typing import IO, Any

import numpy as np

from remnant.ingest.arrays import Declared, from_declared
from remnant.ingest.assemble import Request
from remnant.ingest.limits import Limits, hold, shown
from remnant.ingest.predictions import Predictions

DTYPES = {
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "BF16": "<u2",
    "BOOL": "|b1",
    "I8": "|i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "U8": "|u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
}
"""The dtypes of safetensors as NumPy's. bfloat16 is widened to float32 once read."""


def read_safetensors(path: Path, request: Request, source: dict[str, Any]) -> Predictions:
    """Predictions out of named tensors; `classes` may stand in the metadata as a JSON list of names."""
    with path.open("rb") as stream:
        declared, metadata = _safetensors_header(stream, request.limits)
        return from_declared(declared, _classes(metadata), request, source)


def _safetensors_header(stream: IO[bytes], limits: Limits) -> tuple[dict[str, Declared], dict[str, Any]]:
    size = os.fstat(stream.fileno()).st_size
    length = int.from_bytes(stream.read(8), "little")
    if size < 8 or length > size - 8:
        raise ValueError(f"Expected a header of {length:,} bytes, as its start says, but the file has {size:,} bytes.")
    hold("The header has this many bytes:", length, limits, "header")
    try:
        header = json.loads(stream.read(length))
    except (ValueError, RecursionError) as error:
        raise ValueError("Expected a header in JSON, but it is damaged.") from error
    if not isinstance(header, dict):
        raise ValueError("Expected the header to be a JSON object, but it is not.")
    metadata = header.pop("__metadata__", {})
    hold("The tensors number", len(header), limits, "columns")
    declared = {name: _tensor(name, entry, stream, 8 + length, size) for name, entry in header.items()}
    return declared, metadata if isinstance(metadata, dict) else {}


def _tensor(name: str, entry: Any, stream: IO[bytes], start: int, size: int) -> Declared:
    try:
        kind, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        good = all(type(n) is int and 0 <= n < 2**48 for n in (*shape, begin, end)) and len(shape) <= 8
    except (TypeError, KeyError, ValueError):
        good, kind, shape, begin, end = False, "", (), 0, 0
    if not good:
        raise ValueError(f"Expected dtype, shape and data_offsets of the tensor {shown(name)}, but they are damaged.")
    if not isinstance(kind, str) or kind not in DTYPES:
        fault = f"it has the dtype {shown(kind)}, but only {sorted(DTYPES)} are read. Convert it to float32."
        return Declared(shape, np.dtype("V1"), lambda: np.empty(0), fault)
    dtype = np.dtype(DTYPES[kind])
    if end - begin != math.prod(shape) * dtype.itemsize or start + end > size:
        raise ValueError(
            f"Expected {math.prod(shape) * dtype.itemsize:,} bytes of the tensor {shown(name)}, but its place is "
            f"{begin:,} to {end:,} of {size - start:,}. Is the file complete?"
        )

    def load() -> np.ndarray:
        stream.seek(start + begin)
        array = np.frombuffer(stream.read(end - begin), dtype).reshape(shape)
        if kind == "BF16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(dtype.newbyteorder("="), copy=False)

    return Declared(shape, np.dtype("<f4") if kind == "BF16" else dtype, load)


def _classes(metadata: dict[str, Any]) -> list[str] | None:
    text = metadata.get("classes")
    if not isinstance(text, str):
        return None
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"Expected `classes` of the metadata to be a JSON list of names, but got {shown(text)}.")
    return names
