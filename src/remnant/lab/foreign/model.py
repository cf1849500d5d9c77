"""A model made elsewhere, ready to answer."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from remnant.lab.foreign.preprocessing import Preprocessing
from remnant.lab.foreign.tokenization import Tokenization


@dataclass(frozen=True, eq=False)
class ForeignModel:
    """What all kinds of models have in common once they are open."""

    name: str
    kind: str
    """As in `remnant.references.ModelReference`, or "module" and "callable" for those handed over in Python."""
    answer: Callable[[Any], Any]
    """A batch to logits, as a tensor or an array (example, class). Batches are float32 tensors, lists of texts,
    or dicts of int64 tensors where the model reads tokens."""
    files: tuple[Path, ...] = ()
    """All that was read to make it."""
    module: nn.Module | None = None
    """The module that answers, if there is one."""
    parameters: int | None = None
    """Values in all weights, where they can be counted."""
    classes: tuple[str, ...] | None = None
    """Names of its outputs, where its files say."""
    own_preprocessing: Preprocessing | None = None
    """What its files say that it expects."""
    tokenization: Tokenization | None = None
    """How its files say that texts become tokens."""
    fixed_batch: int | None = None
    """The only number of examples that it takes at once, if it is fixed."""
    input_shape: tuple[int | None, ...] | None = None
    """Shape of one example, None where it is free; None if it is not known."""
    details: dict[str, Any] = field(default_factory=dict)
    """More that belongs into the record: versions, formats."""
    notes: tuple[str, ...] = ()
    """What a reader of the results should know."""


def of_module(module: nn.Module, *, name: str = "", kind: str = "module", **fields: Any) -> ForeignModel:
    """A model that is a torch module; a subclass of Tensor among its weights (torchao) is welcome."""
    numbers = {id(p): p for p in module.parameters()}.values()

    def answer(batch: Any) -> Any:
        return module(**batch) if isinstance(batch, dict) else module(moved(batch, module))

    return ForeignModel(
        name or type(module).__name__,
        kind,
        answer,
        module=module,
        parameters=sum(parameter.numel() for parameter in numbers) or None,
        **fields,
    )


def of_callable(function: Callable[[Any], Any], *, inputs: str = "torch", name: str = "") -> ForeignModel:
    """A model that is any function from a batch to logits.

    Parameters
    ----------
    inputs
        "torch" to call it with tensors, "numpy" with arrays. Texts come as a list in both cases.
    """
    if inputs not in ("torch", "numpy"):
        raise ValueError(f"Expected `inputs` to be 'torch' or 'numpy', but got {inputs!r}.")
    if not callable(function):
        raise ValueError(f"Expected a function from a batch to logits, but got {type(function).__name__}.")

    def answer(batch: Any) -> Any:
        return function(batch.contiguous().numpy() if inputs == "numpy" and isinstance(batch, Tensor) else batch)

    found = name or getattr(function, "__qualname__", "") or type(function).__name__
    return ForeignModel(found, "callable", answer, details={"inputs": inputs})


def moved(batch: Any, module: nn.Module) -> Any:
    """The batch on the module's device, in the precision of its first floating-point weight."""
    if not isinstance(batch, Tensor):
        return batch
    first = next((p for p in module.parameters() if p.is_floating_point()), None)
    return batch if first is None else batch.to(first.device, first.dtype)


@contextmanager
def evaluating(model: ForeignModel) -> Iterator[None]:
    """No gradients, and the model's module in evaluation mode until the end.

    Raises
    ------
    ValueError
        If answering changed the module's weights.
    """
    module = model.module
    modes = [] if module is None else [(part, part.training) for part in module.modules()]
    before = "" if module is None else state_hash(module)
    if module is not None and model.kind != "pt2":  # exported graphs are fixed to one mode
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training
    if module is not None and state_hash(module) != before:
        raise ValueError(f"Expected {model.name!r} to keep its weights while it answers, but it changed them.")


def state_hash(module: nn.Module) -> str:
    """SHA-256 of all weights and buffers with their names, types and shapes."""
    digest = hashlib.sha256()
    for name, value in module.state_dict(keep_vars=True).items():
        for part in _plain(value):
            digest.update(f"{name}\0{part.dtype}\0{tuple(part.shape)}\0".encode())
            digest.update(part.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def state_bytes(module: nn.Module) -> int:
    """Bytes of all weights and buffers, in the types that they have."""
    return sum(part.nbytes for value in module.state_dict(keep_vars=True).values() for part in _plain(value))


def array(output: Any) -> np.ndarray | None:
    """Logits as an array, from a tensor, an array, or the `logits` of a Hugging Face output; else None."""
    output = output.get("logits") if isinstance(output, dict) else getattr(output, "logits", output)
    if isinstance(output, Tensor):
        output = output.detach().cpu()
        return output.float().numpy() if output.dtype == torch.bfloat16 else output.numpy()
    return output if isinstance(output, np.ndarray) else None


def _plain(value: Any) -> list[Tensor]:
    """The ordinary tensors that a tensor consists of."""
    if not isinstance(value, Tensor):
        return []
    if type(value) not in (Tensor, nn.Parameter) and (flatten := getattr(value, "__tensor_flatten__", None)):
        names, _ = flatten()
        return [part for name in names for part in _plain(getattr(value, name))]
    return [value.dequantize() if value.is_quantized else value]
