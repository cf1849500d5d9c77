"""What trials stored, for a population: in memory, or streamed where the logits are large.

Streamed logits stay in the store: an array for xarray that reads what is asked for, trial by trial.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits
from xarray.backends import BackendArray
from xarray.core import indexing

from remnant.answers import predicted
from remnant.engine import num_cores
from remnant.stats.agreement import log_partition, top_class
from remnant.store import DamagedError, Store
from remnant.stored_array import StoredArray
from remnant.trial import Trial

IN_MEMORY = 2**31
"""Most bytes of logits that are loaded into memory."""

_THREADS = 4
"""More would wait for memory, and each holds blocks of its own."""
_VALUES = 2**22
"""Logits in a block of one trial, 8 MB in half precision. Blocks of several trials have four times as many, since each
trial is read on its own."""

T = TypeVar("T")
U = TypeVar("U")


class StreamedLogits(BackendArray):
    """Logits of many trials, shape (trial, example, class), in one stored array for each trial."""

    def __init__(self, trials: Sequence[StoredArray]) -> None:
        self.trials = tuple(trials)
        self.shape = (len(self.trials), *self.trials[0].shape)
        self.dtype = np.result_type(*{trial.dtype for trial in self.trials})

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        trials, examples, classes = key
        if isinstance(trials, int | np.integer):
            return _rows(self.trials[trials], examples, classes).astype(self.dtype, copy=False)
        chosen = [self.trials[row] for row in np.arange(self.shape[0])[trials]]
        if not chosen:
            return np.empty((0, *self.shape[1:]), self.dtype)[:, examples][..., classes]
        first = _rows(chosen[0], examples, classes)
        found = np.empty((len(chosen), *first.shape), self.dtype)
        for place, trial in enumerate(chosen):
            found[place] = first if place == 0 else _rows(trial, examples, classes)
        return found


def read(
    store: Store, trials: Iterable[Trial], faults: dict[str, str] | None
) -> tuple[dict[Trial, Any], dict[Trial, dict[str, Any]]]:
    """Manifests and arrays of the trials. Damaged ones are left out where there are `faults` to note them in."""
    manifests = dict(_each(store.manifest, list(dict.fromkeys(trials)), faults, map))
    # The files hold little but logits, and their sizes are known before they are read.
    files = [manifest["files"].get("predictions", {"bytes": 0}) for manifest in manifests.values()]
    if sum(file["bytes"] for file in files) <= IN_MEMORY:
        return manifests, dict(_each(store.read, list(manifests), faults, map))
    return manifests, dict(_each(lambda trial: _summed_up(store, trial), list(manifests), faults, in_threads))


def outputs(arrays: dict[Trial, dict[str, Any]]) -> dict[str, Any]:
    """Variables on the test examples: logits, and predictions where they are stored or were made of them."""
    found: dict[str, Any] = {}
    if any("prediction" in one for one in arrays.values()):
        # Predictions are stored beside logits that were rounded, which makes equal ones of different ones.
        for one in arrays.values():
            one["prediction"] = predicted(one)
        found["prediction"] = (("trial", "example"), stacked(arrays, "prediction"))
    if all("log_partition" in one for one in arrays.values()):
        found["logits"] = streamed([one["logits"] for one in arrays.values()])
        found["log_partition"] = (("trial", "example"), stacked(arrays, "log_partition"))
    else:
        found["logits"] = (("trial", "example", "class"), stacked(arrays, "logits"))
    return found


def stacked(arrays: dict[Trial, dict[str, Any]], name: str) -> np.ndarray:
    """The arrays of that name, one row for each trial. They are taken out, so that memory holds them once."""
    first = next(iter(arrays.values()))[name]
    found = np.empty((len(arrays), *first.shape), np.result_type(*{one[name].dtype for one in arrays.values()}))
    for row, one in enumerate(arrays.values()):
        found[row] = one.pop(name)
    return found


def streamed(trials: Sequence[StoredArray]) -> xr.Variable:
    """The logits of these trials as a variable that is read when it is asked for, and not kept."""
    return xr.Variable(("trial", "example", "class"), indexing.LazilyIndexedArray(StreamedLogits(trials)))


def blocks(num_examples: int, num_classes: int, num_trials: int = 1) -> list[slice]:
    """Slices of the examples in which to read the logits of some trials, so that little memory is taken."""
    size = max(1, (_VALUES if num_trials == 1 else 4 * _VALUES) // (num_classes * num_trials))
    return [slice(start, min(start + size, num_examples)) for start in range(0, num_examples, size)]


def in_threads(function: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """`function` of each item, in order; on several cores where there are several items.

    For NumPy on large blocks, which lets other threads run. Matrix products take one core each meanwhile: threads of
    threads wait for one another.
    """
    items = list(items)
    threads = min(num_cores(), _THREADS, len(items))
    if threads <= 1:
        return [function(item) for item in items]
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def _each(
    read: Callable[[Trial], Any],
    trials: list[Trial],
    faults: dict[str, str] | None,
    apply: Callable[..., Iterable[Any]],
) -> Iterator[tuple[Trial, Any]]:
    """Each trial and what `read` gives of it."""

    def one(trial: Trial) -> Any:
        try:
            return read(trial)
        except DamagedError as error:
            if faults is None:
                raise
            return error

    for trial, found in zip(trials, apply(one, trials), strict=True):
        if faults is not None and isinstance(found, DamagedError):
            faults[trial.key] = str(found)
        else:
            yield trial, found


def _summed_up(store: Store, trial: Trial) -> dict[str, Any]:
    """The arrays of a trial but its logits; where these are stored, and what analyses need of all of them."""
    stored = store.open(trial)
    arrays: dict[str, Any] = {name: array.whole() for name, array in stored.items() if name != "logits"}
    logits = stored["logits"]
    predicted, partition = [], []
    for rows in blocks(*logits.shape):
        part = logits.part(rows.start, rows.stop)
        partition.append(log_partition(part))
        if "prediction" not in arrays:
            predicted.append(top_class(part))
    return {"prediction": np.concatenate(predicted or [arrays["prediction"]]), **arrays} | {
        "logits": logits,
        "log_partition": np.concatenate(partition),
    }


def _rows(trial: StoredArray, examples: Any, classes: Any) -> np.ndarray:
    """Some examples and classes of one trial."""
    if isinstance(examples, int | np.integer):
        return trial.part(int(examples), int(examples) + 1)[0, classes]
    if isinstance(examples, slice):
        start, stop, step = examples.indices(trial.shape[0])
        if step == 1:
            return trial.part(start, max(start, stop))[:, classes]
    return trial.rows(np.arange(trial.shape[0])[examples])[:, classes]
