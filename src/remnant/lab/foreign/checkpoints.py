"""Weights from files, without running code that they hold."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from remnant.lab.foreign.extras import needed

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "state_dict_ema")
"""Keys under which training scripts keep the weights."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Name to tensor, from a .safetensors file, or from a file of torch.save with `weights_only=True`.

    The usual wrappings of training scripts ({"state_dict": ...}, "module." before each name) are taken off.

    Raises
    ------
    ValueError, FileNotFoundError
        If the file is not there, holds more than tensors, or cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected a file of weights, but {path.resolve()} does not exist.")
    if path.suffix.lower() == ".safetensors":
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except Exception as error:  # safetensors' own
            raise ValueError(f"Cannot read {path} as a safetensors file: {error}.") from error
    found = load_restricted(path)
    if isinstance(found, dict):
        inner = next((found[key] for key in WRAPPERS if isinstance(found.get(key), dict)), found)
        weights = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
        if weights and all(name.startswith("module.") for name in weights):
            weights = {name.removeprefix("module."): value for name, value in weights.items()}
        if weights:
            return weights
    raise ValueError(
        f"Expected {path} to hold a state_dict, names to tensors, but it holds {type(found).__name__}. "
        "Save model.state_dict()."
    )


def load_restricted(source: Any, name: str = "") -> Any:
    """What torch.save wrote, by torch's restricted unpickler; tensors of torchao too where it is installed.

    Raises
    ------
    ValueError
        If it holds anything but tensors and plain values.
    """
    shown = name or str(source)
    try:
        return _load(source)
    except Exception as error:  # pickle, zip and torch errors
        if "torchao" in str(error):
            needed("torchao", shown)  # it tells torch which of its types are safe
            try:
                return _load(source)
            except Exception as again:
                error = again
        if "Weights only load failed" not in str(error) or "Unsupported operand" in str(error):
            raise ValueError(f"Cannot read {shown} as a file of torch.save: {_first_line(error)}") from error
        raise ValueError(
            f"Expected only weights in {shown}, but it holds other Python objects, and reading those can run any code: "
            f"{_unsafe(error)}. Save model.state_dict(), or name a whole module that you trust as pickle:FILE."
        ) from error


def _load(source: Any) -> Any:
    if hasattr(source, "seek"):
        source.seek(0)
    return torch.load(source, map_location="cpu", weights_only=True)


def load_into(module: nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """The weights, in the module. Tensors that are no ordinary ones (quantized by torchao) replace the module's.

    Raises
    ------
    ValueError
        With the first names that are missing, not expected, or of another shape.
    """
    own = module.state_dict()
    special = any(type(value) not in (Tensor, nn.Parameter) for value in weights.values())
    missing, extra = ([k for k in a if k not in b] for a, b in ((own, weights), (weights, own)))
    # Older files lack this counter, which evaluation does not use.
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    reshaped = [
        f"{name} is {tuple(weights[name].shape)} in the file and {tuple(value.shape)} in the model"
        for name, value in own.items()
        if name in weights and tuple(weights[name].shape) != tuple(value.shape)
    ]
    if missing or extra or reshaped:
        parts = [
            f"{len(names)} {what}: {'; '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
            for what, names in (
                ("missing in the file", missing),
                ("unknown to the model", extra),
                ("of another shape", reshaped),
            )
            if names
        ]
        raise ValueError(
            f"The weights of {where} do not fit the model. {'. '.join(parts)}. Is it the same architecture, number "
            "of classes and number of channels? Pruned models need a function that builds the pruned shapes."
        )
    try:
        module.load_state_dict(weights, strict=False, assign=special)
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise ValueError(f"The weights of {where} do not fit the model: {_first_line(error)}") from error


def _unsafe(error: Exception) -> str:
    for word in str(error).replace("\n", " ").split("GLOBAL ")[1:2]:
        return word.split(" ")[0]
    return _first_line(error)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
