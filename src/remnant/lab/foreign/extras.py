"""Packages that only some models need."""

from importlib import import_module
from typing import Any

EXTRAS = {
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "timm": "timm",
    "transformers": "hf",
    "datasets": "hf",
    "torchao": "torchao",
    "torch_pruning": "structured",
}
"""Module to the extra of remnant that installs it."""


def needed(module: str, what: str) -> Any:
    """The module, imported; `what` is what it is needed for.

    Raises
    ------
    ValueError
        If its package is missing, with the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ValueError(
            f"Expected the package {module!r} for {what!r}, but it is not installed ({error}). "
            f'Install it with: pip install "remnant[{EXTRAS[module]}]"'
        ) from error
