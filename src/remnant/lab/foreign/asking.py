"""A model, its data and how it is asked, put together and checked against what was said of it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from remnant.lab.foreign.evaluation_sets import EvaluationData
from remnant.lab.foreign.model import ForeignModel
from remnant.lab.foreign.opening import open_model
from remnant.lab.foreign.preprocessing import PRESETS, Preprocessing, parse_preprocessing
from remnant.lab.foreign.running import Answers, Progress, Steps, run
from remnant.lab.foreign.sanity import SAMPLE, Evidence, Expectation, accuracy, chance_note, refuse
from remnant.lab.foreign.tokenization import Tokenization, written


@dataclass(frozen=True, eq=False)
class Question:
    """An open model, its inputs, and how they are presented."""

    model: ForeignModel
    data: EvaluationData
    steps: Steps
    batch_size: int

    def answers(self, progress: Progress | None = None) -> Answers:
        """The model's answers on all examples, its classes in the data's order where both name them."""
        found = run(self.model, self.data, self.steps, batch_size=self.batch_size, progress=progress)
        order = class_order(self.model, self.data)
        return found if order is None else replace(found, logits=found.logits[:, order])

    def on_sample(self, number: int, steps: Steps | None = None) -> "Question":
        """The same question on evenly spaced examples, or with other preprocessing."""
        part = self.data.part(spread(len(self.data), min(number, len(self.data))))
        return replace(self, data=part, steps=self.steps if steps is None else steps)


def ask(model: Any, data: EvaluationData, stated: Any, *, batch_size: int, threads: int, device: str) -> Question:
    """The question that the user's words describe.

    Raises
    ------
    ValueError, OSError
        If the model cannot be opened, or it is not said how it wants its inputs.
    """
    opened = open_model(
        model,
        num_classes=None if data.classes is None else len(data.classes),
        channels=_channels(data, stated),
        texts=data.are_texts,
        threads=threads,
    )
    if device != "cpu" and isinstance(model, str | Path):
        _move(opened, device)
    return Question(opened, data, _steps(opened, data, stated), batch_size)


def check(expected: Expectation, question: Question, answers: Answers, *, sampled: int | None = None) -> None:
    """Nothing, if the answers are as good as expected.

    Raises
    ------
    ValueError
        With the cause, where it can be found.
    """
    found = _evidence(question, answers)
    if expected.misses(accuracy(found.predictions, found.labels), sampled=sampled):
        raise refuse(expected, found)


def notes(question: Question, answers: Answers) -> list[str]:
    """What a reader of the answers should know: order of classes, answers no better than chance."""
    model, data = question.model, question.data
    found = list(model.notes)
    if class_order(model, data) is not None:
        found.append("The model names its classes in another order than the data: its outputs were reordered by name.")
    elif model.classes and data.classes and _folded(model.classes) != _folded(data.classes):
        found.append(
            f"The model calls its classes {list(model.classes[:3])} ..., the data {list(data.classes[:3])} ...: "
            "their order was taken to be the same."
        )
    if data.labels is not None and (warning := chance_note(_evidence(question, answers))):
        found.append(warning)
    return found


def class_order(model: ForeignModel, data: EvaluationData) -> list[int] | None:
    """For each class of the data, the model's output of that name; None where that changes nothing or names differ."""
    if data.classes is None or model.classes is None:
        return None
    ours, theirs = _folded(data.classes), _folded(model.classes)
    if ours == theirs or sorted(ours) != sorted(theirs) or len(set(ours)) < len(ours):
        return None
    return [theirs.index(name) for name in ours]


def spread(number: int, limit: int) -> np.ndarray:
    """`limit` evenly spaced positions in range(number)."""
    return np.linspace(0, number - 1, limit).round().astype(np.int64)


def _evidence(question: Question, answers: Answers) -> Evidence:
    data = question.data
    assert data.labels is not None

    def retry(steps: Preprocessing) -> float:
        part = question.on_sample(SAMPLE, steps)
        assert part.data.labels is not None
        return accuracy(part.answers().logits.argmax(1), part.data.labels)

    return Evidence(
        question.model.name,
        answers.logits.argmax(1),
        data.labels,
        data.classes or tuple(map(str, range(answers.logits.shape[1]))),
        question.steps,
        data.normal,
        retry,
    )


def _steps(model: ForeignModel, data: EvaluationData, stated: Any) -> Steps:
    """The preprocessing as a value, out of what was stated and what the model's files say."""
    if data.are_texts:
        return _text_steps(model, stated)
    if isinstance(stated, Preprocessing):
        return stated
    if not isinstance(stated, str) and (stated is not None or model.own_preprocessing is None or model.kind != "hf"):
        presets = "; ".join(f"{name!r}: {meaning}" for name, meaning in PRESETS.items())
        raise ValueError(
            f"Expected `preprocessing`: what does {model.name} want to see? Presets are {presets}. "
            "Or state it, as in 'size=224,mean=0.5,std=0.5'."
        )
    return parse_preprocessing(stated or "model", dataset=data.normal, model=model.own_preprocessing)


def _text_steps(model: ForeignModel, stated: Any) -> Steps:
    steps = written(stated) if isinstance(stated, str) else stated
    if stated is not None and not isinstance(steps, Tokenization):
        raise ValueError(f"Expected `preprocessing` such as 'tokenizer=DIR' for texts, but got {stated!r}.")
    if isinstance(steps, Tokenization) and steps.max_length is None and model.tokenization is not None:
        steps = replace(steps, max_length=model.tokenization.max_length)
    steps = steps or model.tokenization
    if steps is None and model.kind != "callable":
        raise ValueError(
            f"Expected a tokenizer for {model.name}. Name its folder with `preprocessing='tokenizer=DIR'`."
        )
    return steps


def _channels(data: EvaluationData, stated: Any) -> int | None:
    """Channels of the inputs after preprocessing; None if they are no pictures."""
    if data.are_texts:
        return None
    first = data.batch(np.arange(1))
    found = first.shape[1] if isinstance(first, torch.Tensor) and first.ndim == 4 else 3
    steps = stated
    if isinstance(stated, str):
        steps = parse_preprocessing(stated, dataset=data.normal, model=Preprocessing(channels="RGB"))
    if not isinstance(steps, Preprocessing):
        return found
    return {"RGB": 3, "BGR": 3, "grey": 1}.get(steps.channels, found)


def _move(model: ForeignModel, device: str) -> None:
    if model.module is None:
        raise ValueError(f"Expected `device` to be 'cpu' for {model.name}, but got {device!r}.")
    try:
        model.module.to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"Cannot use the device {device!r}: {str(error).strip().splitlines()[0]}") from error


def _folded(names: tuple[str, ...]) -> list[str]:
    return [name.casefold() for name in names]
