"""The answers of a model made elsewhere, as `remnant.ingest` reads them from files."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from remnant.ingest.predictions import Predictions, from_arrays
from remnant.lab.dataset import Dataset
from remnant.lab.foreign.asking import ask, check, notes, spread
from remnant.lab.foreign.evaluation_sets import EvaluationData, evaluation_data
from remnant.lab.foreign.memory import bounded_memory
from remnant.lab.foreign.model import ForeignModel, evaluating
from remnant.lab.foreign.preprocessing import Preprocessing
from remnant.lab.foreign.record import record
from remnant.lab.foreign.running import Answers, Progress
from remnant.lab.foreign.sanity import Expectation, accuracy
from remnant.lab.foreign.tokenization import Tokenization

EARLY = 1000
"""Examples on which a stated accuracy is looked at before the rest is run, where there are many more."""


def predict(
    model: str | Path | nn.Module | Callable[[Any], Any] | ForeignModel,
    data: str | Dataset | EvaluationData,
    *,
    preprocessing: str | Preprocessing | Tokenization | None = None,
    batch_size: int = 128,
    threads: int | None = None,
    device: str = "cpu",
    expect: float | Expectation | None = None,
    limit: int | None = None,
    root: str | Path | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """What a model answers on labelled examples, with a record of how it was asked.

    Parameters
    ----------
    model
        A reference (`remnant.references.FORMS`), a torch module, or a function from a batch to logits. A
        function gets float32 tensors; `of_callable(f, inputs="numpy")` gives it arrays. A module stays as it is.
    data
        A reference (`DATA_FORMS`), a data set of remnant, or `of_arrays(...)`. Relative names are looked up in
        `root`, else in the folder that REMNANT_DATA names, else in the current folder.
    preprocessing
        How pictures become inputs: a preset (`PRESETS`), "mean=0.5,std=0.5,size=224", both ("imagenet,channels=BGR"),
        or a value. Required for pictures unless the model's own files say it (`hf:`). For texts, "tokenizer=DIR"
        where the model's folder has none.
    batch_size, threads, device
        How it is run; recorded. Default as many threads as torch uses now. A module that you hand over stays on
        its own device.
    expect
        The share of right answers that you know it to have, such as 0.912: unless it is that within half a
        percentage point (`Expectation(0.912, tolerance=...)`), nothing is returned.
    limit
        Run only so many examples, evenly spaced.
    progress
        Called as progress(finished, total, note).

    Raises
    ------
    ValueError, OSError
        If the model or the data cannot be read, do not fit each other, or miss `expect`; with the likely cause.
    """
    _check_options(batch_size, threads, limit)
    expected = Expectation(expect) if isinstance(expect, int | float) else expect
    whole = evaluation_data(data, root)
    chosen = whole if limit is None or limit >= len(whole) else whole.part(spread(len(whole), limit))
    if expected is not None and chosen.labels is None:
        raise ValueError(f"Expected labels in {chosen.name!r} to compare with `expect`, but there are none.")
    with bounded_memory(), _threads(threads) as used:
        question = ask(model, chosen, preprocessing, batch_size=batch_size, threads=used, device=device)
        with evaluating(question.model), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if expected is not None and len(chosen) > 5 * EARLY:
                sample = question.on_sample(EARLY)
                check(expected, sample, sample.answers(), sampled=EARLY)
            answers = question.answers(progress)
            if expected is not None:
                check(expected, question, answers)
        source = record(question.model, chosen, question.steps, answers, threads=used)
    source["data"]["of"] = len(whole)
    source["notes"] = notes(question, answers)
    if chosen.labels is not None:
        source["accuracy"] = accuracy(answers.logits.argmax(1), chosen.labels)
    if expected is not None:
        source["expect"] = {"accuracy": expected.share, "tolerance": expected.tolerance}
    return _predictions(chosen, question.model, answers, source)


def _predictions(data: EvaluationData, model: ForeignModel, answers: Answers, source: dict[str, Any]) -> Predictions:
    return from_arrays(
        answers.logits,
        read_as="logits",
        label=data.labels,
        ids=data.ids,
        classes=data.classes or model.classes,
        columns=data.columns,
        text=list(data.inputs) if data.are_texts else None,  # pyright: ignore[reportArgumentType]
        model_bytes=source["bytes"],
        latency=answers.latency,
        source=source,
    )


def _check_options(batch_size: int, threads: int | None, limit: int | None) -> None:
    for name, value in (("batch_size", batch_size), ("threads", threads), ("limit", limit)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ValueError(f"Expected `{name}` to be a whole number above 0, but got {value!r}.")


@contextmanager
def _threads(number: int | None) -> Iterator[int]:
    """As many threads in torch until the end; how many that are."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield number or before
    finally:
        torch.set_num_threads(before)
