"""Logs of lm-evaluation-harness (`--log_samples`): multiple choice by log-likelihood.

Read are the files `samples_TASK_DATE.jsonl` of versions from 0.4.3 on (numbers as strings, `arguments` as an
object) and the lists of samples that earlier versions of 0.4 wrote (numbers as numbers, `arguments` as lists).
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from remnant.ingest.assemble import Request
from remnant.ingest.limits import hold, shown
from remnant.ingest.predictions import Predictions, from_arrays

ABSENT = -1e4
"""Log-likelihood that stands for an answer option that an example does not have."""

METRICS = {"none": "acc", "characters": "acc_norm", "bytes": "acc_bytes"}
"""Normalization to the accuracy that the harness computes with it."""

MOST_LEVELS = 100
"""Fields of a document with more different values are not attributes but content."""


@dataclass
class Samples:
    """What was read so far, one element per document."""

    ids: list[Any] = field(default_factory=list)
    likelihoods: list[list[float]] = field(default_factory=list)
    options: list[list[str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    targets: list[Any] = field(default_factory=list)
    metrics: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in METRICS.values()})
    hashes: list[Any] = field(default_factory=list)
    fields: list[dict[str, Any]] = field(default_factory=list)


def is_sample(row: dict[str, Any]) -> bool:
    """Whether a JSON object is a sample that lm-evaluation-harness logged."""
    return "doc_id" in row and "arguments" in row and ("filtered_resps" in row or "resps" in row)


def predictions(rows: Iterator[dict[str, Any]], request: Request, source: dict[str, Any]) -> Predictions:
    """Predictions out of logged samples: scores are log-likelihoods of the answer options.

    The true option is told from `target`, as an index or as the text of an option, whichever agrees with the
    accuracy that the harness logged; where neither does, from that accuracy if there are two options. Else
    there is no label, and `source["label"]` says why.

    Raises
    ------
    ValueError
        If a sample was generated text, has fewer than 2 options, or is damaged.
    """
    if request.normalize not in METRICS:
        raise ValueError(f"Expected `normalize` among {sorted(METRICS)}, but got {request.normalize!r}.")
    samples = Samples()
    for number, row in enumerate(rows):
        hold("The samples number", number + 1, request.limits, "rows")
        _add(samples, row, number, request)
    counts = np.array([len(line) for line in samples.likelihoods])
    raw = _padded(samples.likelihoods, counts)
    scores = _normalized(raw, samples.options, request.normalize)
    _check_padding(scores, counts)
    label, note = _labels(samples, raw, counts)
    hashes = samples.hashes if all(isinstance(value, str) for value in samples.hashes) else None
    return from_arrays(
        scores,
        label=label,
        ids=_ids(samples.ids),
        columns=_attributes(samples.fields),
        text=samples.texts,
        options=samples.options,
        content=hashes,
        read_as="logits",
        source={**source, "kind": "lm-evaluation-harness", "normalize": request.normalize, "label": note},
        limits=request.limits,
    )


def _add(samples: Samples, row: dict[str, Any], number: int, request: Request) -> None:
    if "doc_id" not in row:
        raise ValueError(f"Expected `doc_id` in every sample, but sample {number} has {shown(sorted(row))}.")
    responses = row.get("filtered_resps", row.get("resps"))
    if not isinstance(responses, list) or not responses:
        raise ValueError(f"Expected a list of responses in every sample, but sample {number} has {shown(responses)}.")
    likelihoods = [_likelihood(response, number) for response in responses]
    contexts, continuations = _arguments(row.get("arguments"), len(likelihoods), number)
    if len(likelihoods) % 2 == 0 and len(set(contexts)) > 1 and all(c == "" for c in contexts[len(contexts) // 2 :]):
        # Logged for the accuracy by mutual information: each option once more without its question.
        half = len(likelihoods) // 2
        likelihoods, contexts, continuations = likelihoods[:half], contexts[:half], continuations[:half]
    if len(likelihoods) < 2:
        raise ValueError(
            f"Expected at least 2 answer options, but sample {number} has {len(likelihoods)}: the task is not multiple "
            "choice. Write its answers to a CSV file with the columns id, label and prediction."
        )
    hold("The answer options number", len(likelihoods), request.limits, "classes")
    # Where the question differs between options (winogrande), it is what is chosen.
    vary = len(set(continuations)) == 1 and len(set(contexts)) > 1
    document = row.get("doc")
    samples.ids.append(row["doc_id"])
    samples.likelihoods.append(likelihoods)
    samples.options.append(contexts if vary else [text.lstrip() for text in continuations])
    samples.texts.append(continuations[0] if vary else _end(contexts[0], request.limits.text))
    samples.targets.append(row.get("target"))
    samples.hashes.append(row.get("doc_hash"))
    samples.fields.append(_scalars(document) if isinstance(document, dict) else {})
    for name, values in samples.metrics.items():
        values.append(row.get(name))


def _likelihood(response: Any, number: int) -> float:
    """The log-likelihood out of [value, is_greedy], as numbers or as strings, in one more list or not."""
    inner = response
    while isinstance(inner, list) and len(inner) == 1 and isinstance(inner[0], list):
        inner = inner[0]
    if isinstance(inner, list) and len(inner) == 2 and str(inner[1]) in ("True", "False", "0", "1", "0.0", "1.0"):
        try:
            return float(inner[0])
        except (TypeError, ValueError, OverflowError):
            pass
    raise ValueError(
        f"Expected log-likelihoods [[value, is_greedy], ...], but sample {number} has {shown(response)}: the task "
        "generates text. Write its answers to a CSV file with the columns id, label and prediction."
    )


def _arguments(arguments: Any, num_responses: int, number: int) -> tuple[list[str], list[str]]:
    """Context and continuation of every request."""
    if isinstance(arguments, dict):
        pairs: list[Any] = [arguments.get(f"gen_args_{i}") for i in range(num_responses)]
        pairs = [[p.get("arg_0"), p.get("arg_1")] if isinstance(p, dict) else p for p in pairs]
    else:
        pairs = arguments if isinstance(arguments, list) else []
    good = len(pairs) == num_responses and all(
        isinstance(p, list) and len(p) >= 2 and isinstance(p[0], str) and isinstance(p[1], str) for p in pairs
    )
    if not good:
        raise ValueError(
            f"Expected the context and continuation of {num_responses} requests in `arguments`, but sample {number} "
            f"has {shown(arguments)}."
        )
    return [p[0] for p in pairs], [p[1] for p in pairs]


def _end(text: str, most: int) -> str:
    """The end of a prompt, where the question stands after the worked examples."""
    return text if len(text) <= most else "..." + text[3 - most :]


def _scalars(document: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in document.items()
        if isinstance(name, str) and isinstance(value, str | int | float) and len(str(value)[:201]) <= 200
    }


def _ids(ids: list[Any]) -> Any:
    if all(type(value) is int for value in ids):
        if all(-(2**63) <= value < 2**63 for value in ids):
            return np.array(ids, np.int64)
        raise ValueError("Expected `doc_id` within 64 bits, but one is larger.")
    return np.array([value if isinstance(value, str) else str(value) for value in ids], object)


def _padded(lines: list[list[float]], counts: np.ndarray) -> np.ndarray:
    out = np.full((len(lines), counts.max()), ABSENT)
    out[np.arange(out.shape[1]) < counts[:, np.newaxis]] = np.concatenate(lines)
    return out


def _normalized(raw: np.ndarray, options: list[list[str]], how: str) -> np.ndarray:
    """Log-likelihoods by the length of their option; those of absent options stay."""
    if how == "none":
        return raw
    out = raw.copy()
    for row, line in enumerate(options):
        length = np.array([len(text) if how == "characters" else len(text.encode(errors="replace")) for text in line])
        out[row, : len(line)] = raw[row, : len(line)] / np.maximum(length, 1)
    return out


def _check_padding(scores: np.ndarray, counts: np.ndarray) -> None:
    real = np.arange(scores.shape[1]) < counts[:, np.newaxis]
    if not real.all() and np.nanmin(scores[real]) <= ABSENT:
        raise ValueError(
            f"Expected log-likelihoods above {ABSENT:g}, which stands for absent options, but the lowest is "
            f'{np.nanmin(scores[real]):g}. Read the file with `normalize="bytes"`.'
        )


def _labels(samples: Samples, raw: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray | None, str]:
    """The true option of every sample, or None, and how it was told."""
    rights = _logged_accuracy(samples, raw)
    by_index = np.array([_index(target) for target in samples.targets])
    by_text = np.array([_place(t, line) for t, line in zip(samples.targets, samples.options, strict=True)])
    if rights is None:
        candidates = {"index": by_index, "text": by_text}
        whole = {n: c for n, c in candidates.items() if ((c >= 0) & (c < counts)).all()}
        if len(whole) == 2 and not np.array_equal(by_index, by_text):
            return None, "absent: `target` may be an index or a text, and no accuracy was logged that tells which"
        if whole:
            name = next(iter(whole))
            return whole[name], f"`target` as {name}"
        return None, "absent: `target` is neither an option's index nor its text"
    chosen, right, metric = rights
    for name, candidate in (("index", by_index), ("text", by_text)):
        if ((candidate >= 0) & (candidate < counts) & ((candidate == chosen) == right)).all():
            return candidate, f"`target` as {name}, in agreement with the logged `{metric}`"
    if (right | (counts == 2)).all():
        return np.where(right, chosen, 1 - chosen), f"from the logged `{metric}`"
    return None, f"absent: `target` does not agree with the logged `{metric}`; the task may allow several answers"


def _logged_accuracy(samples: Samples, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray, str] | None:
    """Chosen option and whether the harness counted it as right, by the first accuracy that it logged."""
    for how, metric in METRICS.items():
        values = samples.metrics[metric]
        if all(type(value) in (int, float, bool) and value in (0, 1) for value in values):
            return _normalized(raw, samples.options, how).argmax(axis=1), np.array(values, float) == 1, metric
    return None


def _index(target: Any) -> int:
    """The target as an index; -1 if it is not one, or several of which only one may count."""
    if isinstance(target, str):
        try:
            target = ast.literal_eval(target) if len(target) <= 12 else None
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return -1
    if isinstance(target, list) and len(target) == 1:
        target = target[0]
    return target if type(target) is int and 0 <= target < 2**31 else -1


def _place(target: Any, options: list[str]) -> int:
    """The place of the option whose text is the target; -1 if it is not there exactly once."""
    text = target.strip() if isinstance(target, str) else None
    places = [place for place, option in enumerate(options) if option.strip() == text]
    return places[0] if len(places) == 1 else -1


def _attributes(fields: list[dict[str, Any]]) -> dict[str, Any]:
    """Fields of the documents that split them into groups: present in all, with few different values."""
    found: dict[str, Any] = {}
    for name in fields[0]:
        if not all(name in document for document in fields):
            continue
        values = [document[name] for document in fields]
        if all(type(value) in (int, float) for value in values):
            found[name] = np.array([float(value) if abs(value) < 1e300 else np.nan for value in values])
        elif 1 < len({str(value) for value in values}) <= min(MOST_LEVELS, len(values) // 2):
            found[name] = [str(value) for value in values]
    return found
