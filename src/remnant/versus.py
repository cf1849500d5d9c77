"""One reference beside models that were compressed elsewhere: files or models in, an audit out."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from glob import glob, has_magic
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from remnant import ingest
from remnant.analyses import audit
from remnant.finding import Audit, Claim
from remnant.ingest.limits import printable
from remnant.population import predictions, reference_of
from remnant.references import is_model_reference
from remnant.report.galleries import Thumbnails

EXPECT_TOLERANCE = 0.005
"""A share of right answers this near to the one that is expected is the same."""
Progress = Callable[[int, int, str], None]
"""Called with the number of finished steps, of all steps, and what comes next."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a model, or several of them that were made the same way."""

    name: str
    """What reports call it."""
    sources: tuple[Any, ...]
    """Files of predictions, references of models, callables or `ingest.Predictions`."""


@dataclass(frozen=True)
class Compared:
    """What `compare` found."""

    audit: Audit
    """Every question that a pair (or a few models a side) can answer."""
    population: xr.Dataset
    """The answers of all models on the shared examples; see `remnant.population.SCHEMA`."""
    pictures: Thumbnails | None = field(default=None, repr=False)
    """Gives the images of examples, where the data have some."""

    def claim(self, quantity: str, subject: str | None = None) -> Claim:
        """The claim on a quantity, such as "cie_u_rate"; `subject` names the side where there are several.

        Raises
        ------
        KeyError
            If there is no such claim, or there are several.
        """
        found = [
            claim
            for finding in self.audit.findings
            for claim in finding.claims
            if claim.quantity == quantity and subject in (None, claim.subject)
        ]
        if len(found) != 1:
            known = sorted({(c.quantity, c.subject) for f in self.audit.findings for c in f.claims})
            raise KeyError(f"Expected one claim {quantity!r} on {subject!r}, but found {len(found)}; claims: {known}.")
        return found[0]

    def to_frame(self) -> pd.DataFrame:
        """The table of the first screen: a row for each side, columns as in the report."""
        from remnant.report.overview import overview

        table = overview(self.audit)
        rows = {name.text: [cell.text for cell in cells] for name, cells in table.rows}
        return pd.DataFrame.from_dict(rows, orient="index", columns=list(table.columns))

    def write(self, directory: str | Path, **options: Any) -> dict[str, Path]:
        """Write the report as `remnant.write_report` does; the same options."""
        from remnant.report import write

        return write(self.audit, directory, thumbnails=self.pictures, **options)

    def __str__(self) -> str:
        from remnant.report.characters import visible
        from remnant.report.prose import plain
        from remnant.report.summary import answers

        return "\n".join(
            visible(f"{answer.question} {' '.join(plain(said) for said in (answer.lead, *answer.rest))}")
            for answer in answers(self.audit)
        )

    def _repr_html_(self) -> str:
        from remnant.report.html import excerpt

        return excerpt(self.audit)


def compare(
    reference: Any,
    *compressed: Any,
    labels: Any = None,
    data: str | None = None,
    floor: Any = None,
    match: Literal["id", "position"] = "id",
    missing: Literal["error", "drop"] = "error",
    margin: float = 0.01,
    files: Mapping[str, Any] | None = None,
    models: Mapping[str, Any] | None = None,
    analyses: Sequence[str] | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress | None = None,
) -> Compared:
    """What compressed models answer otherwise than the reference, whom that harms, and how sure that is.

    Parameters
    ----------
    reference, compressed
        Each a file of predictions, a reference of a model ("model.onnx", "timm:NAME@FILE", "hf:DIR", ...; needs
        `data`), a callable x -> logits or torch module (needs `data`), an array of logits, `ingest.Predictions`,
        or a `Side`. A string may start with "NAME=" and may list several sources with commas or a glob pattern:
        they are models made the same way and form a population.
    labels
        True classes (and attributes of the examples), where the sides' own files have none: a file, or
        `ingest.Predictions`. Without labels, disagreement is reported.
    data
        Data set that models are run on, and whose labels, groups and pictures the report uses.
    floor
        The reference a second time, from another run of the same model: what it differs in is nondeterminism.
    match
        "id", or "position" for files that are known to list the same examples in the same order.
    missing
        "error", or "drop" to compare on the examples that all sides have.
    margin
        Of the equivalence test, as a share: 0.01 is one point of accuracy.
    files
        How files are read: options of `ingest.read`, such as `{"scores": "probabilities"}`.
    models
        How models are run: options of `remnant.lab.foreign.predict`, such as `{"preprocessing": "imagenet"}`. The
        option `expect`, the known share of right answers, is that of the reference, a model or a file.
    analyses, parameters, progress
        As of `remnant.audit`.

    Raises
    ------
    ValueError, OSError, SchemaError
        If a side cannot be read or run, or the sides do not fit together: nothing is dropped in silence.
    """
    sides = name_apart([as_side(reference), *(as_side(side) for side in compressed)])
    if len(sides) < 2 and floor is None:
        raise ValueError("Expected at least one compressed model beside the reference, but got none.")
    if floor is not None:
        sides = name_apart([*sides, Side(f"{sides[0].name}, again", as_side(floor).sources)])
    reader = _Reader(data, dict(files or {}), dict(models or {}), progress, sum(len(side.sources) for side in sides))
    answers = {side.name: [reader.read(source, first=side is sides[0]) for source in side.sources] for side in sides}
    truth = reader.truth() if labels is None else reader.file(labels)
    population = ingest.population(answers, labels=truth, match=match, missing=missing)
    if (models or {}).get("expect") is not None:
        _check_expected((models or {})["expect"], population)
    pictures = reader.pictures()
    population.attrs["pictures"] = pictures is not None
    if floor is not None:
        population.attrs["floor"] = sides[-1].name
    given = {name: dict(values) for name, values in (parameters or {}).items()}
    defaults = {"equivalence": {"margin": margin}}
    if {"bytes", "latency"} & set(population):
        defaults["league"] = {"least_sides": 1}  # one model has no rank, but a size and a speed
    for name, values in defaults.items():
        if analyses is None or name in analyses:
            given[name] = values | given.get(name, {})
    return Compared(audit(population, analyses, parameters=given, progress=progress), population, pictures)


def _check_expected(expect: Any, population: xr.Dataset) -> None:
    """Nothing, if each model of the reference is right on the share of the examples that its maker states."""
    share, tolerance = getattr(expect, "share", expect), getattr(expect, "tolerance", EXPECT_TOLERANCE)
    if "label" not in population:
        raise ValueError("Expected labels to compare with `expect`, but there are none. Give them with `labels`.")
    label = population["label"].values
    rows = np.flatnonzero(population["scheme"].values == reference_of(population))
    for row in rows:
        found = predictions(population.isel(trial=[row]))[0]
        if abs(float((found == label).mean()) - share) > tolerance + 1e-9:
            from remnant.lab.foreign.sanity import Evidence, Expectation, refuse

            name = str(population["trial" if len(rows) > 1 else "scheme"].values[row])
            classes = tuple(map(str, population["class"].values))
            raise refuse(Expectation(share, tolerance), Evidence(name, found, label, classes, None))


def as_side(given: Any) -> Side:
    """A side from what a user wrote; see `compare`.

    Raises
    ------
    ValueError
        If a name is given without a source.
    """
    if isinstance(given, Side):
        return given
    if isinstance(given, Path):
        return Side(_stem(str(given)), (str(given),))
    if not isinstance(given, str):
        return Side(_name_of(given), (given,))
    named = None if Path(given).exists() else re.match(r"(?P<name>[^=/\\:@]+)=(?P<rest>.*)", given, re.DOTALL)
    name, rest = (printable(named["name"].strip()), named["rest"]) if named else ("", given)
    if not rest or (named and not name):
        raise ValueError(f"Expected a side such as 'FILE' or 'NAME=FILE', but got {given!r}.")
    sources = [rest] if Path(rest).exists() else [found for part in rest.split(",") for found in _expand(part)]
    return Side(name or _stem(sources[0]), tuple(sources))


def name_apart(sides: Sequence[Side]) -> list[Side]:
    """The sides with names that differ: where files have the same name, with their folders, else with numbers."""
    names = [side.name for side in sides]
    folders = [_with_folder(side) if names.count(side.name) > 1 else side.name for side in sides]
    same = {name for name, folder in zip(names, folders, strict=True) if folders.count(folder) > 1}
    folders = [name if name in same else folder for name, folder in zip(names, folders, strict=True)]
    told = [
        f"{name} ({folders[:i].count(name) + 1})" if name in folders[:i] else name for i, name in enumerate(folders)
    ]
    return [Side(name, side.sources) for name, side in zip(told, sides, strict=True)]


class _Reader:
    """Reads files and runs models one after the other, on one set of data."""

    def __init__(
        self, data: str | None, files: dict[str, Any], models: dict[str, Any], progress: Progress | None, total: int
    ) -> None:
        self._named, self._files, self._models = data, files, models
        self._progress, self._done, self._total = progress, 0, total
        self._any_file = False

    @cached_property
    def _data(self) -> Any:
        from remnant.lab.foreign import evaluation_data

        return evaluation_data(self._named or "", self._models.get("root"))

    def read(self, source: Any, *, first: bool) -> ingest.Predictions:
        """The answers of one source; `first`: it belongs to the reference."""
        if self._progress:
            self._progress(self._done, self._total, f"reading {_stem(source) if isinstance(source, str) else ''}")
        self._done += 1
        is_model = is_model_reference(source) if isinstance(source, str) else not _is_answers(source)
        return self._run(source, first=first) if is_model else self.file(source)

    def file(self, source: Any) -> ingest.Predictions:
        """The answers in a file or in memory."""
        self._any_file = True
        if isinstance(source, ingest.Predictions):
            return source
        if isinstance(source, str | Path):
            return ingest.read(source, **self._files)
        scores = np.asarray(source)
        return ingest.from_arrays(prediction=scores) if scores.ndim == 1 else ingest.from_arrays(scores)

    def truth(self) -> ingest.Predictions | None:
        """Labels and attributes of the data, where files have to be joined with them."""
        if self._named is None or not self._any_file or self._data.labels is None:
            return None
        data = self._data
        texts = list(data.inputs) if data.are_texts else None
        source = {"kind": "data", "name": data.name, "sha256": data.fingerprint}
        return ingest.from_arrays(
            label=data.labels, ids=data.ids, classes=data.classes, columns=data.columns, text=texts, source=source
        )

    def pictures(self) -> Thumbnails | None:
        """The images of the data by id; None where there are none."""
        if self._named is None or self._data.are_texts or not _is_picture(self._shown([0])[0]):
            return None
        rows = {str(name): row for row, name in enumerate(self._data.ids.tolist())}

        def find(split: str, wanted: Sequence[str]) -> dict[str, np.ndarray]:
            known = [name for name in wanted if name in rows] if split == "test" else []
            if not known:
                return {}
            shown = self._shown([rows[name] for name in known])
            return {name: image for name, image in zip(known, shown, strict=True) if _is_picture(image)}

        return find

    def _shown(self, rows: list[int]) -> list[np.ndarray]:
        """Inputs as arrays with the channels last."""
        batch = self._data.batch(np.array(rows))
        if isinstance(batch, list):
            return batch
        return list(batch.permute(0, 2, 3, 1).numpy() if batch.ndim == 4 else batch.numpy())

    def _run(self, model: Any, *, first: bool) -> ingest.Predictions:
        from remnant.lab.foreign import predict

        if self._named is None:
            raise ValueError(
                f"Expected `data` to run {model!r} on, but got none. Name a data set, such as 'imagefolder:DIR' or "
                "'arrays:FILE.npz'."
            )
        options = dict(self._models)
        if not first:
            options.pop("expect", None)
        done, total = self._done - 1, self._total

        def show(finished: int, every: int, note: str) -> None:
            if self._progress:
                self._progress(done, total, f"{_stem(str(model))}: {finished} of {every} {note}".strip())

        return predict(model, self._data, **options, progress=show)


def _is_answers(source: Any) -> bool:
    """A file of predictions, or answers in memory."""
    return isinstance(source, Path | ingest.Predictions | list | tuple) or hasattr(source, "__array__")


def _is_picture(image: np.ndarray) -> bool:
    return image.dtype == np.uint8 and image.ndim == 3


def _expand(part: str) -> list[str]:
    if not has_magic(part) or is_model_reference(part):
        return [part]
    found = sorted(glob(part))
    if not found:
        raise FileNotFoundError(f"Expected files that match {part!r}, but there are none.")
    # What was found are files, also where their names read as "pickle:FILE" or "module:function" do.
    return [os.path.join(".", name) if ":" in name and not os.path.isabs(name) else name for name in found]


def _stem(source: str) -> str:
    """A short name: of the file without its endings, or what stands before its weights."""
    head = source.partition("@")[0] if is_model_reference(source) else source
    name = re.split(r"[/\\]", head.rstrip("/\\"))[-1]
    name = re.sub(r"(\.(npz|npy|csv|parquet|jsonl?|safetensors|onnx|pt2?|pth|gz))+$", "", name) or source
    return printable(name)


def _with_folder(side: Side) -> str:
    folder = Path(side.sources[0]).resolve().parent.name if isinstance(side.sources[0], str) else ""
    return f"{printable(folder)}/{side.name}" if folder else side.name


def _name_of(thing: Any) -> str:
    if isinstance(thing, ingest.Predictions):
        return _stem(str(thing.source.get("name") or "predictions"))
    return getattr(thing, "__name__", type(thing).__name__)
