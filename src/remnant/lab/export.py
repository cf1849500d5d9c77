"""Models as files that other tools run: ONNX, torch.export archives, safetensors."""

import copy
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from remnant.lab.compress.quantized_layers import QuantizedLayer, StaticLayer
from remnant.lab.foreign.exported_programs import open_exported
from remnant.lab.foreign.extras import needed
from remnant.lab.foreign.onnx_files import LARGEST, open_onnx
from remnant.lab.onnx_export import graph_of, quiet, reason
from remnant.lab.onnx_layers import exportable
from remnant.version import __version__

_SECONDS = 0.3
"""Time for the repetitions of a latency measurement; at least 5 are made."""


class Normalization(NamedTuple):
    """What turns stored numbers into what the network sees: (x / scale - mean) / std per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 255.0
    """255 for pixels of uint8."""


def to_onnx(
    model: nn.Module,
    input_shape: tuple[int, ...],
    path: str | Path,
    *,
    normalize: Normalization | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """The file of a float or quantized model that ONNX Runtime runs, int8 layers on its integer kernels.

    One input with a batch of any size, one output "logits". Static int8 layers are written as QuantizeLinear and
    DequantizeLinear around the float operator (int8 weights per channel, int32 biases), dynamic ones as
    DynamicQuantizeLinear and integer products (one range for the whole batch, so that answers are those of this
    library for batches of one), weights of 4 and fewer bits as int4. Other tensors are float32.

    Parameters
    ----------
    input_shape
        That of one example, such as (3, 32, 32).
    normalize
        Puts the normalization into the graph: the input is then called "pixels" and holds raw numbers, uint8 for
        scale 255, else float32. None: the input is called "images" and holds what the network sees.
    metadata
        More entries for the file's metadata.

    Raises
    ------
    ValueError
        If the extra "onnx" is not installed, or torch cannot export the model; with the reason.
    """
    what = f"an ONNX file of {type(model).__name__}"
    onnx = needed("onnx", what)
    needed("onnxscript", what)
    if not hasattr(torch.onnx, "ops"):
        raise ValueError(f"Expected torch 2.8 or newer for {what}, but {torch.__version__} is installed.")
    network, example, name = _with_normalization(exportable(model), input_shape, normalize)
    proto = graph_of(network, example, name)
    for key, value in _described(model, normalize, metadata).items():
        proto.metadata_props.add(key=key, value=value)
    if proto.ByteSize() > LARGEST:
        raise ValueError(f"Expected a model of at most 2 GiB, but {what} has {proto.ByteSize():,} bytes.")
    onnx.checker.check_model(proto)
    return _written(path, proto.SerializeToString())


def to_exported_program(
    model: nn.Module,
    input_shape: tuple[int, ...],
    path: str | Path,
    *,
    normalize: Normalization | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """The archive of torch.export that torch and this library run without the model's code.

    Quantized layers are what they are here: float32 arithmetic on integer codes. Parameters as `to_onnx`, but raw
    numbers are float32 always; the metadata is the archive's extra file "metadata.json".

    Raises
    ------
    ValueError
        If torch cannot export the model, with the reason.
    """
    network = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    network, example, _ = _with_normalization(network, input_shape, normalize)
    example = example.float()
    extra = {"metadata.json": json.dumps(_described(model, normalize, metadata), indent=1)}
    batch = torch.export.Dim("batch", min=1)
    try:
        with quiet():
            program = torch.export.export(network, (example,), dynamic_shapes=({0: batch},))
            torch.export.save(program, path, extra_files=extra)
    except Exception as error:  # whatever torch meets in a model's `forward`
        raise ValueError(f"torch cannot export {type(model).__name__}: {reason(error)}") from error
    return Path(path)


def to_safetensors(model: nn.Module, path: str | Path, *, metadata: Mapping[str, str] | None = None) -> Path:
    """The state dictionary of a model: for `remnant.lab.compress.restore`, or `load_state_dict` of a float model.

    Codes of weights are int8 and those of biases int32, parameters that are all halves float16, each without loss:
    `load_state_dict` gives the float32 numbers again.

    Raises
    ------
    ValueError
        If a tensor is of a kind of its own, such as those of torchao.
    """
    from safetensors.torch import save

    for name, value in model.state_dict(keep_vars=True).items():
        if type(value) not in (Tensor, nn.Parameter, nn.Buffer):
            raise ValueError(
                f"Expected plain tensors for safetensors, but `{name}` is of type {type(value).__name__}. "
                "Write the model with to_exported_program."
            )
    # Copies: the format has no tensors that share their memory, as those of tied layers do.
    state = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLayer):
            first = f"{name}.layer." if name else "layer."
            state[f"{first}weight"] = state[f"{first}weight"].to(torch.int8)
            if isinstance(module, StaticLayer) and module.inputs is not None and module.layer.bias is not None:
                state[f"{first}bias"] = state[f"{first}bias"].to(torch.int32)
    parameters = {name for name, value in model.named_parameters() if value.dtype == torch.float32}
    if all(torch.equal(state[name].float(), state[name].half().float()) for name in parameters & set(state)):
        state |= {name: state[name].half() for name in parameters if state[name].dtype == torch.float32}
    return _written(path, save(state, metadata=_described(model, None, metadata)))


def measured(path: str | Path, inputs: Tensor, *, threads: int = 1) -> dict[str, Any]:
    """Size and speed of an .onnx file in ONNX Runtime, or of a .pt2 archive in torch.

    Parameters
    ----------
    inputs
        Examples as the file takes them; repeated to fill a batch.
    threads
        Threads of ONNX Runtime. torch takes as many as it is set to.

    Returns
    -------
    dict
        "bytes" of the file; "latency_1" and "latency_32", seconds per example in batches of 1 and 32, medians;
        "threads"; "runtime".
    """
    path = Path(path)
    if path.suffix == ".onnx":
        model, runtime = open_onnx(path, threads=threads), "onnxruntime"
    else:
        model, runtime, threads = open_exported(path), "torch", torch.get_num_threads()
    found: dict[str, Any] = {"bytes": path.stat().st_size}
    for size in (1, 32):
        batch = inputs.repeat(-(-size // len(inputs)), *[1] * (inputs.dim() - 1))[:size].contiguous()
        found[f"latency_{size}"] = _seconds(model.answer, batch) / size
    return {**found, "threads": threads, "runtime": runtime}


@torch.inference_mode()
def _seconds(answer: Any, batch: Tensor) -> float:
    """The median of repetitions after two that warm up."""
    seconds: list[float] = []
    for _ in range(2):
        answer(batch)
    while len(seconds) < 5 or sum(seconds) < _SECONDS:
        start = time.perf_counter()
        answer(batch)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


class _Normalized(nn.Module):
    """A network that takes raw numbers."""

    def __init__(self, network: nn.Module, normalize: Normalization, dimensions: int) -> None:
        super().__init__()
        self.network = network
        mean, std = torch.tensor(normalize.mean, dtype=torch.float32), torch.tensor(normalize.std, dtype=torch.float32)
        shape = (1, -1) + (1,) * (dimensions - 1)
        self.factor = nn.Buffer((1 / (normalize.scale * std)).view(shape))
        self.shift = nn.Buffer((-mean / std).view(shape))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixels.float() * self.factor + self.shift)


def _with_normalization(
    network: nn.Module, input_shape: tuple[int, ...], normalize: Normalization | None
) -> tuple[nn.Module, Tensor, str]:
    """The network, a batch of two inputs, and the input's name."""
    if normalize is None:
        return network, torch.zeros(2, *input_shape), "images"
    normalize = Normalization(*normalize)
    for name in ("mean", "std"):
        if len(getattr(normalize, name)) not in (1, input_shape[0]):
            raise ValueError(
                f"Expected `normalize` with a {name} for each of {input_shape[0]} channels, "
                f"but got {getattr(normalize, name)}."
            )
    kind = torch.uint8 if normalize.scale == 255 else torch.float32
    return _Normalized(network, normalize, len(input_shape)), torch.zeros(2, *input_shape, dtype=kind), "pixels"


def _described(model: nn.Module, normalize: Normalization | None, metadata: Mapping[str, str] | None) -> dict[str, str]:
    """The metadata of a file."""
    if normalize is None:
        inputs = "normalized: what the network sees"
    else:
        mean, std, scale = Normalization(*normalize)
        inputs = f"raw: the graph computes (x / {scale:g} - mean) / std with mean {list(mean)} and std {list(std)}"
    kinds = sorted({type(module).__name__ for module in model.modules() if isinstance(module, QuantizedLayer)})
    return {
        "remnant": __version__,
        "inputs": inputs,
        "quantized_layers": ", ".join(kinds) or "none",
        **(metadata or {}),
    }


def _written(path: str | Path, content: bytes) -> Path:
    path = Path(path)
    path.write_bytes(content)
    return path
