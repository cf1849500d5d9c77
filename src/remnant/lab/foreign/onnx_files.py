"""ONNX models, run by ONNX Runtime on the CPU."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from remnant.lab.foreign.extras import needed
from remnant.lab.foreign.model import ForeignModel
from remnant.lab.foreign.tokenization import Tokenization

TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
TOKENS = ("input_ids", "attention_mask", "token_type_ids")
"""Inputs of a model of texts."""

LARGEST = 2**31 - 1
"""Bytes of one protobuf message; larger models keep their weights in files beside them."""

# Where an operator takes scales and zero points, which are no parameters.
_QUANTIZERS = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "MatMulInteger": (2, 3),
    "ConvInteger": (2, 3),
}


def open_onnx(path: Path, *, threads: int | None = None) -> ForeignModel:
    """The model in an .onnx file.

    One input, or the inputs of a text classifier by their usual names; the output called `logits`, else
    the only one. Weights beside the file are read from its own folder alone.

    Raises
    ------
    ValueError, OSError
        If the file is no model, reaches outside its folder, or cannot be run; with the reason.
    """
    onnx, runtime = needed("onnx", str(path)), needed("onnxruntime", str(path))
    if not path.is_file():
        raise FileNotFoundError(f"Expected an ONNX model, but {path.resolve()} does not exist.")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"Expected {path} to be at most 2 GiB, but it has {path.stat().st_size:,} bytes.")
    try:
        proto = onnx.load_model(path, load_external_data=False)
    except Exception as error:  # protobuf's own
        raise ValueError(f"Cannot read {path} as an ONNX model: {error}.") from error
    beside = _external_files(path, proto)
    session = _session(runtime, path, threads)
    inputs, output = _signature(path, session)
    kinds = {entry.name: TYPES.get(entry.type) for entry in inputs}
    if strange := [entry.type for entry in inputs if kinds[entry.name] is None]:
        raise ValueError(f"Expected inputs of {path} to be tensors of numbers, but got {strange}.")
    tokens = len(inputs) > 1 or inputs[0].name in TOKENS

    def answer(batch: Tensor | dict[str, Tensor]) -> np.ndarray:
        given = batch if isinstance(batch, dict) else {inputs[0].name: batch}
        absent = [name for name in kinds if name not in given]
        if absent:
            raise ValueError(f"Expected the inputs {list(kinds)}, but the tokenizer does not give {absent}.")
        feed = {name: _cast(given[name], kind) for name, kind in kinds.items()}
        return session.run([output], feed)[0]

    shape = [size if isinstance(size, int) and size > 0 else None for size in inputs[0].shape]
    return ForeignModel(
        path.name,
        "onnx",
        answer,
        files=(path, *beside),
        parameters=_parameters(proto),
        tokenization=Tokenization(path.parent) if tokens and (path.parent / "tokenizer.json").is_file() else None,
        fixed_batch=shape[0] if shape else None,
        input_shape=None if tokens or not shape else tuple(shape[1:]),
        details={
            "runtime": f"onnxruntime {runtime.__version__}, CPUExecutionProvider",
            "opset": {opset.domain or "ai.onnx": opset.version for opset in proto.opset_import},
            "input_type": inputs[0].type,
            "tokens": tokens,
        },
    )


def _session(runtime: Any, path: Path, threads: int | None) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own, which derive from Exception only
        raise ValueError(f"ONNX Runtime cannot run {path}: {_reason(error)}") from error


def _signature(path: Path, session: Any) -> tuple[list[Any], str]:
    """The inputs that are fed, and the name of the output that is read."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    names = [entry.name for entry in inputs]
    if not names or (len(names) > 1 and not set(names) <= set(TOKENS)):
        raise ValueError(
            f"Expected {path} to have one input, or inputs out of {list(TOKENS)}, but it has {len(names)}: {names}. "
            "Export the classifier alone, or call it in Python from a function of a batch."
        )
    found = [entry.name for entry in outputs]
    if len(found) > 1 and "logits" not in found:
        raise ValueError(f"Expected {path} to have one output, or one called 'logits', but it has {found}.")
    return inputs, "logits" if "logits" in found else found[0]


def _cast(batch: Tensor, kind: Any) -> np.ndarray:
    values = batch.contiguous().numpy()
    if kind is np.uint8 and values.dtype != np.uint8:
        whole = np.rint(values)
        if np.abs(whole - values).max(initial=0) > 1e-3 or values.min(initial=0) < 0 or values.max(initial=0) > 255:
            raise ValueError(
                "Expected whole numbers of 0 to 255, as the model's input is uint8, but `preprocessing` gives others. "
                "Use range=0..255 without mean and std."
            )
        values = whole
    return values.astype(kind, copy=False)


def _external_files(path: Path, proto: Any) -> tuple[Path, ...]:
    """The files beside the model that hold its weights, after a look at where they lie.

    Raises
    ------
    ValueError
        If one lies outside the model's folder, is missing, or is shorter than the model says.
    """
    folder = path.parent.resolve()
    found: dict[Path, None] = {}
    for tensor in _tensors(proto.graph, proto.functions):
        stored = {entry.key: entry.value for entry in tensor.external_data}
        if tensor.data_location != 1 and not stored:
            continue
        location = stored.get("location", "")
        target = folder / location
        inside = bool(location) and "\\" not in location and "\0" not in location
        if not inside or Path(location).is_absolute() or not target.resolve().is_relative_to(folder):
            raise ValueError(
                f"Expected the weights of {path} in its own folder, but it asks for {location!r}. "
                "A model that reads other files is not run."
            )
        if not target.is_file():
            raise FileNotFoundError(f"Expected the weights of {path} in {target}, but that file does not exist.")
        offset, length = (int(stored.get(key) or 0) if (stored.get(key) or "0").isdigit() else -1 for key in _SPAN)
        if min(offset, length) < 0 or offset + length > target.stat().st_size:
            raise ValueError(f"Expected {target} to hold the weights that {path} names, but it is too short.")
        found[target] = None
    return tuple(found)


_SPAN = ("offset", "length")


def _tensors(graph: Any, functions: Any = ()) -> Iterator[Any]:
    """All constant tensors of a graph, of the graphs inside its nodes, and of local functions."""
    if hasattr(graph, "initializer"):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from ([attribute.t] if attribute.HasField("t") else ())
            yield from attribute.tensors
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from _tensors(inner)
    for function in functions:
        yield from _tensors(function)


def _parameters(proto: Any) -> int | None:
    """Values in the initializers that are not int64 (shapes and indices), scales or zero points."""
    aside = {
        node.input[position]
        for node in proto.graph.node
        for position in _QUANTIZERS.get(node.op_type, ())
        if position < len(node.input)
    }
    sizes = [
        math.prod(tensor.dims)
        for tensor in proto.graph.initializer
        if tensor.name not in aside and tensor.data_type != 7 and len(tensor.dims)
    ]
    return sum(sizes) or None


def _reason(error: Exception) -> str:
    """ONNX Runtime's message without its code numbers and source lines."""
    text = " ".join(str(error).split())
    for mark in ("Status Message: ", "failed:"):
        text = text.rpartition(mark)[2] or text
    return text.strip()[:400]
