"""Networks as ONNX graphs that integer kernels run."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from remnant.lab.onnx_layers import INT4

OPSET = 21
"""The first with 4-bit integers and blocks of scales."""


def graph_of(model: nn.Module, example: Tensor, name: str) -> Any:
    """The ONNX model of a network that `exportable` made, for batches of any size.

    Parameters
    ----------
    example
        A batch of inputs, of 2 or more.
    name
        Of the input; the output is called "logits".

    Raises
    ------
    ValueError
        If torch's exporter cannot write it, with the reason.
    """
    batch = torch.export.Dim("batch", min=1)
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: batch},),
                input_names=[name],
                output_names=["logits"],
                opset_version=OPSET,
                verbose=False,
            )
        assert program is not None
        return finished(program.model_proto)
    except Exception as error:  # whatever the exporter meets in a model's `forward`
        raise ValueError(f"torch cannot write {type(model).__name__} as ONNX: {reason(error)}") from error


def finished(proto: Any) -> Any:
    """The model with 4-bit weights packed and without what integers make superfluous; changed in place."""
    from onnx import TensorProto, helper, numpy_helper

    graph = proto.graph
    for tensor in graph.initializer:
        if tensor.name.endswith(INT4):
            codes = numpy_helper.to_array(tensor)
            tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.INT4, codes.shape, codes.flatten().tolist()))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if not tensor.dims}
    results = {output.name for output in graph.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    made_by: dict[str, Any] = {}
    instead: dict[str, str] = {}
    dequantized: dict[tuple[str, ...], str] = {}
    for node in graph.node:  # in the order of computation
        for position, name in enumerate(node.input):
            node.input[position] = instead.get(name, name)
        same = None
        if node.op_type == "DequantizeLinear":
            # Once for all that read the numbers.
            same = dequantized.setdefault((*node.input, *map(str, node.attribute)), node.output[0])
        elif node.input and node.input[0] in made_by:
            same = _same_as(node, made_by[node.input[0]], readers.get(node.output[0], []), constants)
        if same not in (None, node.output[0]) and node.output[0] not in results:
            instead[node.output[0]] = same
        made_by |= dict.fromkeys(node.output, node)
    _drop_unused(graph, results)
    return proto


def _same_as(node: Any, source: Any, readers: list[Any], constants: dict[str, np.ndarray]) -> str | None:
    """What a node's output is equal to, if its input is of `source`, a DequantizeLinear of activations.

    A ReLU (or ReLU6) of numbers that are within its bounds leaves them; numbers of a grid have their codes on it.
    ONNX Runtime merges two grids that meet, which changes numbers: a ReLU between different ones stays.
    """
    if source.op_type != "DequantizeLinear" or not all(name in constants for name in source.input[1:]):
        return None
    if len(source.input) < 3:
        return None
    scale, zero_point = (constants[name] for name in source.input[1:3])

    def on_the_grid(quantizer: Any) -> bool:
        own = [constants.get(name) for name in quantizer.input[1:3]]
        return bool(own[0] == scale and own[1] == zero_point)

    if node.op_type == "QuantizeLinear":
        return source.input[0] if on_the_grid(node) else None
    if any(reader.op_type == "QuantizeLinear" and not on_the_grid(reader) for reader in readers):
        return None
    codes = np.iinfo(zero_point.dtype)
    low, high = (scale * (end - float(zero_point)) for end in (codes.min, codes.max))
    if node.op_type == "Relu":
        return node.input[0] if low >= 0 else None
    if node.op_type == "Clip" and len(node.input) == 3 and all(name in constants for name in node.input[1:]):
        smallest, largest = (constants[name] for name in node.input[1:])
        return node.input[0] if low >= smallest and high <= largest * (1 + 1e-6) else None
    return None


def _drop_unused(graph: Any, results: set[str]) -> None:
    """Leave only nodes and constants that the results depend on, without notes on the code they come from."""
    needed, kept = set(results), []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            del node.metadata_props[:]
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    del graph.value_info[:]  # shapes of what was there before
    del graph.metadata_props[:]


@contextmanager
def quiet() -> Iterator[None]:
    """torch's exporters tell of packages that are not needed and of what they are about to raise."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def reason(error: BaseException) -> str:
    """The first line of an exporter's message that says what is wrong: that of the error behind it."""
    while error.__cause__ is not None:
        error = error.__cause__
    if "Constraints violated (batch)" in str(error):
        return "its `forward` fixes the number of examples of a batch, such as by len(x) in the place of x.shape[0]."
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]
