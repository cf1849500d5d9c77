"""From what a user names to a model that answers."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from remnant.lab.foreign.checkpoints import load_into, read_weights
from remnant.lab.foreign.exported_programs import open_exported
from remnant.lab.foreign.hugging_face import open_hugging_face
from remnant.lab.foreign.model import ForeignModel, of_callable, of_module
from remnant.lab.foreign.named_networks import open_timm, open_torchvision
from remnant.lab.foreign.onnx_files import open_onnx
from remnant.references import ModelReference, model_reference, nearest
from remnant.registry import user_object


def open_model(
    model: str | Path | nn.Module | Callable[[Any], Any] | ForeignModel,
    *,
    num_classes: int | None = None,
    channels: int | None = None,
    texts: bool = False,
    threads: int | None = None,
) -> ForeignModel:
    """The model behind a reference (`remnant.references.FORMS`), a module, or a function of a batch.

    Parameters
    ----------
    num_classes, channels
        Of the data, for networks that are built before their weights are read.
    texts
        Whether it is to read texts, for references that say both.
    threads
        Of ONNX Runtime; default one per core.

    Raises
    ------
    ValueError, OSError
        If there is no such model, or it cannot be read without running code of its own.
    """
    if isinstance(model, ForeignModel):
        return model
    if isinstance(model, nn.Module):
        return of_module(model)
    if not isinstance(model, str | Path):
        return of_callable(model)
    reference = model_reference(str(model))
    path = Path(reference.path)
    if reference.kind == "onnx":
        return open_onnx(path, threads=threads)
    if reference.kind == "pt2":
        return open_exported(path)
    if reference.kind == "hf":
        return open_hugging_face(path, "text" if texts else "image")
    if reference.kind == "torchvision":
        return open_torchvision(reference, num_classes)
    if reference.kind == "timm":
        return open_timm(reference, num_classes, channels)
    if reference.kind == "function":
        return _function(reference)
    return _torchscript(path) if reference.kind == "torchscript" else _pickled(path)


def _function(reference: ModelReference) -> ForeignModel:
    """The module that the user's function returns, or that the name already is."""
    try:
        found = user_object(reference.name)
    except ValueError as error:
        near = nearest(str(reference))
        raise ValueError(f"{error}{f' Did you mean {near!r}?' if near else ''}") from error
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise ValueError(f"Expected {reference.name!r} to be a function, but it is {type(found).__name__}.")
        try:
            found = found()
        except TypeError as error:
            raise ValueError(
                f"Expected {reference.name!r} to be a function without arguments that returns a torch module, "
                f"but calling it failed: {error}."
            ) from error
    if not isinstance(found, nn.Module):
        raise ValueError(
            f"Expected {reference.name!r} to return a torch.nn.Module, but it returned {type(found).__name__}. "
            "A function from a batch to logits can be handed over in Python."
        )
    files = ()
    if reference.path:
        load_into(found, read_weights(Path(reference.path)), reference.path)
        files = (Path(reference.path),)
    return of_module(found, name=str(reference), kind="function", files=files, details={"torch": torch.__version__})


def _torchscript(path: Path) -> ForeignModel:
    _present(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated, its files are not gone
            module = torch.jit.load(path, map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"Cannot read {path} as TorchScript: {str(error).strip().splitlines()[0][:300]}") from error
    return of_module(module, name=path.name, kind="torchscript", files=(path,), details={"torch": torch.__version__})


def _pickled(path: Path) -> ForeignModel:
    """A whole module, unpickled because the user named it so."""
    _present(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # whatever the pickle does
        raise ValueError(f"Cannot unpickle {path}: {type(error).__name__}: {error}.") from error
    if not isinstance(found, nn.Module):
        raise ValueError(
            f"Expected {path} to hold a torch.nn.Module, but it holds {type(found).__name__}. "
            "Weights alone are read as package.module:function@FILE."
        )
    return of_module(found, name=path.name, kind="pickle", files=(path,), details={"torch": torch.__version__})


def _present(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"Expected a model in {path.resolve()}, but that file does not exist.")
