"""Batches through a model, checked and timed."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from remnant.lab.foreign.evaluation_sets import EvaluationData
from remnant.lab.foreign.model import ForeignModel, array
from remnant.lab.foreign.preprocessing import Preprocessing, apply
from remnant.lab.foreign.tokenization import Tokenization, tokenizer

Steps = Preprocessing | Tokenization | None
"""What is done to inputs; None hands texts over as they are."""

Progress = Callable[[int, int, str], None]
"""Called with the number of finished examples, of all, and a note."""

REPEATS = 5
"""Timed batches at least, so that their median is one."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answered, and how long it took."""

    logits: np.ndarray
    """Finite, (example, class), in the type that the model gives."""
    latency: float
    """Median seconds per example in the model alone, without reading and preprocessing."""
    batch_size: int
    """Of the batches that were timed."""


def encoder(steps: Steps, data: EvaluationData) -> Callable[[np.ndarray], Any]:
    """A function from positions of examples to a batch as the model wants it."""
    if isinstance(steps, Preprocessing):
        return lambda indices: apply(steps, data.batch(indices))
    if isinstance(steps, Tokenization):
        encode = tokenizer(steps)
        return lambda indices: encode(data.batch(indices))  # pyright: ignore[reportArgumentType]
    return data.batch


def run(
    model: ForeignModel,
    data: EvaluationData,
    steps: Steps,
    *,
    batch_size: int,
    progress: Progress | None = None,
) -> Answers:
    """The model's logits on all examples, in their order.

    Raises
    ------
    ValueError
        If it cannot take the inputs, gives something else than logits for the data's classes, or NaN.
    """
    encode = encoder(steps, data)
    size = model.fixed_batch or min(batch_size, len(data))
    logits: np.ndarray | None = None
    seconds: list[float] = []
    batch: Any = None
    for start in range(0, len(data), size):
        chosen = np.arange(start, min(start + size, len(data)))
        padded = np.pad(chosen, (0, size - len(chosen)), mode="edge") if model.fixed_batch else chosen
        batch = encode(padded)
        _check_shape(model, batch)
        begin = time.perf_counter()
        output = _answer(model, batch)
        if len(padded) == size:
            seconds.append(time.perf_counter() - begin)
        found = _checked(model, data, output, len(padded))[: len(chosen)]
        logits = np.empty((len(data), found.shape[1]), found.dtype) if logits is None else logits
        _check_finite(model, data, found, start)
        logits[start : start + len(chosen)] = found
        if progress is not None:
            progress(start + len(chosen), len(data), model.name)
    assert logits is not None
    return Answers(logits, _latency(model, encode(np.arange(size) % len(data)), seconds) / size, size)


def _latency(model: ForeignModel, batch: Any, seconds: list[float]) -> float:
    """Median seconds of full batches, without the first, which pays for what is set up once."""
    warm = seconds[1:]
    while len(warm) < REPEATS and (len(warm) < 1 or sum(warm) < 2):
        begin = time.perf_counter()
        _answer(model, batch)
        warm.append(time.perf_counter() - begin)
    return statistics.median(warm)


def _answer(model: ForeignModel, batch: Any) -> Any:
    try:
        return model.answer(batch)
    except MemoryError as error:
        raise ValueError(_too_large(model)) from error
    except Exception as error:  # runtimes and users' functions have errors of their own
        text = " ".join(str(error).split())
        if "allocate" in text:
            raise ValueError(_too_large(model)) from error
        raise ValueError(
            f"{model.name} failed on a batch of {_described(batch)}: {type(error).__name__}: {text[:400]} "
            "Does `preprocessing` give what the model expects (size, channels, layout)?"
        ) from error


def _too_large(model: ForeignModel) -> str:
    return f"{model.name} asks for more memory than this machine has free. Lower `batch_size`, if you trust the model."


def _check_shape(model: ForeignModel, batch: Any) -> None:
    if model.details.get("tokens") and not isinstance(batch, dict):
        raise ValueError(
            f"Expected tokens for {model.name}, whose inputs are those of a text classifier. "
            "Give texts and `preprocessing='tokenizer=DIR'`."
        )
    wanted = model.input_shape
    if wanted is None or not isinstance(batch, Tensor):
        return
    shape = tuple(batch.shape[1:])
    if len(shape) != len(wanted) or any(w is not None and w != s for w, s in zip(wanted, shape, strict=True)):
        hint = "Change size and channels in `preprocessing`."
        if len(shape) == 3 and len(wanted) == 3:
            if (wanted[0], wanted[2]) == (shape[2], shape[0]) or wanted == (*shape[1:], shape[0]):
                hint = "Add layout=NHWC to `preprocessing`: the channels come last."
            elif wanted[1:] != shape[1:] and wanted[1]:
                hint = f"Add for example size={wanted[1]}x{wanted[2]} to `preprocessing`."
            elif wanted[0] == 3 and shape[0] == 1:
                hint = "Add channels=RGB to `preprocessing`."
        raise ValueError(
            f"Expected inputs of shape {_shown(wanted)} for {model.name}, but the data give {_shown(shape)}. {hint}"
        )


def _checked(model: ForeignModel, data: EvaluationData, output: Any, number: int) -> np.ndarray:
    found = array(output)
    if found is None:
        raise ValueError(
            f"Expected {model.name} to return logits as a tensor or an array, but it returned "
            f"{type(output).__name__}. Return the logits alone."
        )
    if found.ndim != 2 or len(found) != number or found.dtype.kind != "f":
        raise ValueError(
            f"Expected {model.name} to return floating-point logits of shape ({number}, classes) for {number} "
            f"examples, but got {found.dtype} of shape {found.shape}."
        )
    wanted = len(data.classes) if data.classes is not None else None
    if wanted is not None and found.shape[1] != wanted:
        raise ValueError(
            f"Expected {wanted} outputs from {model.name}, one for each class of {data.name!r}, but it has "
            f"{found.shape[1]}. Was it trained for other data?"
        )
    if wanted is None and data.labels is not None and data.labels.max() >= found.shape[1]:
        raise ValueError(
            f"Expected labels below {found.shape[1]}, the number of outputs of {model.name}, but {data.name!r} has "
            f"the label {data.labels.max()}."
        )
    return found


def _check_finite(model: ForeignModel, data: EvaluationData, logits: np.ndarray, start: int) -> None:
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        raise ValueError(
            f"Expected finite logits, but {model.name} gives NaN or infinity on {len(bad)} of {len(logits)} examples "
            f"of a batch (the first is {str(data.ids[start + bad[0]])!r}). Do its numbers overflow, as float16 does?"
        )


def _described(batch: Any) -> str:
    if isinstance(batch, Tensor):
        return f"shape {tuple(batch.shape)}"
    if isinstance(batch, dict):
        return ", ".join(f"{name} {tuple(value.shape)}" for name, value in batch.items())
    return f"{len(batch)} texts"


def _shown(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"
