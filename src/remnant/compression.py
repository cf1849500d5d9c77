"""Compress a trained model, under a limit on what it may forget, and hand over an artefact with its audit."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from remnant import analyses, execute, manifest, population, report, search
from remnant.finding import Audit
from remnant.schemes import Align, Compose, Dense, Scheme, TunedScheme, parse_align
from remnant.schemes.parsing import parse_scheme
from remnant.search.axes import BOUNDS
from remnant.store import Store
from remnant.trial import Recipe, Trial, to_dict
from remnant.units import parse as amount

if TYPE_CHECKING:
    from remnant.lab.debugging.restoring import Restoration

FORMATS = ("safetensors", "pt2", "onnx")
"""Files that a compressed model can be written as."""
QUESTIONS = ("mismatches", "equivalence", "slices", "groups", "cost", "calibration")
"""What the report of one compression asks; those that the data do not allow are left out."""


@dataclass(frozen=True)
class Compression:
    """A compressed model beside the dense one that it was made from."""

    trial: Trial
    """The chosen compression, in the store."""
    store: Store
    audit: Audit
    """What compression changed, on the test examples."""
    population: xr.Dataset
    """Both models' answers, the dense one first; see `remnant.population.SCHEMA`."""
    search: search.SearchResult | None
    """How the strength was found; None if it was given."""
    skipped: tuple[str, ...]
    """Layers that were left as they are, as "layer: reason"."""
    restoration: "Restoration | None" = None
    """Layers that were given back to keep a limit, and what that did; None if it was not asked for."""
    root: str | None = None

    @property
    def footprint(self) -> dict[str, dict[str, Any]]:
        """Size and cost of both models, by "dense" and "compressed"; see `remnant.lab.footprint.measure`."""
        pair = {"dense": replace(self.trial, scheme=Dense()), "compressed": self.trial}
        return {name: self.store.manifest(trial)["footprint"] for name, trial in pair.items()}

    def model(self) -> Any:
        """The compressed `torch.nn.Module`, in evaluation mode; it takes normalized inputs."""
        from remnant.lab.run import model_of

        return model_of(self.trial, self.store, self.root)


def compress(
    model: str,
    scheme: str | Scheme,
    *,
    data: str = "",
    store: str | Path | Store = "compressed-store",
    align: str | Align | None = None,
    budget: str | None = None,
    objective: str = "memory",
    method: search.Method = "bisection",
    samples: int = 10,
    restore_until: str | None = None,
    seed: int = 0,
    refuse_skipped: bool = False,
    root: str | None = None,
    recipe: Mapping[str, Any] | None = None,
    progress: Callable[[execute.Progress], None] | None = None,
    report: Callable[[search.Sample], None] | None = None,
) -> Compression:
    """A trained model compressed by a scheme, or by the strongest setting of it that keeps a budget.

    All that is trained goes to the store: a second call computes nothing, an interrupted one goes on. One model is made
    after the other, in this process.

    Parameters
    ----------
    model
        A model that was trained elsewhere (`remnant.references.FORMS`; onnx, pt2 and TorchScript files have no layers
        to compress), or the folder or URL of a store whose dense model of `seed` is taken.
    scheme
        A scheme, or its text such as "one-shot-pruning(sparsity=0.9, epochs=2) + static-int8". With a budget the
        strength may be left out.
    data
        Data set with training and test examples, as `Recipe.dataset`; for a store that of its recipe.
    align
        Losses of every part that trains, such as "distillation+logits softadapt"; see `remnant.schemes.Align`.
    budget
        Limits that the strongest setting must keep, such as "cie_u<=0.5%"; see `remnant.search.Budget`.
    objective, method, samples
        As in `remnant.search.search_strength`.
    restore_until
        Give layers of the dense model back until few enough answers are lost, such as "cie_u<=0.5%" or "cie<=1%":
        the layers that do most for their bytes, chosen on half of the test examples. Not together with a budget.
    seed
        Of the random numbers of training, and of the dense model in a store.
    refuse_skipped
        Raise an error where the scheme would leave layers out.
    recipe
        With a model trained elsewhere: fields of `Recipe` for its fine-tuning, and "preprocessing".
    progress, report
        Called after each trial, and after each sample of a search.

    Raises
    ------
    ValueError, OSError
        For a model, data, scheme or budget that cannot be used; before anything is trained.
    """
    shelf = Store.of(store)
    limit = None if restore_until is None else restore_limit(restore_until)
    if limit and budget is not None:
        raise ValueError(
            "Expected `restore_until` or `budget`, but got both. Search first, then restore what it found."
        )
    wanted = template(scheme, align, searched=budget is not None)
    base, shelf = _recipe(model, data, shelf, seed, root, dict(recipe or {}))
    if Trial(base, wanted).parent is None:
        raise ValueError(
            f"Expected a scheme that starts from trained weights, but {wanted.label!r} trains from scratch. "
            "Take another, such as 'gradual-pruning'."
        )
    skipped = _rehearsed(Trial(base, wanted, seed), root, refuse_skipped)
    found = None
    if budget is not None:
        found = search.search_strength(
            wanted, budget, store=shelf, recipe=base, field=strength_field(wanted), objective=objective, method=method,
            max_samples=samples, seeds=[seed], root=root, engine="serial", progress=progress, report=report,
        )  # fmt: skip
        assert found.best is not None
        wanted = found.best.scheme
    trial, restoration = Trial(base, wanted, seed), None
    run = partial(execute.run, store=shelf, engine="serial", root=root, progress=progress)
    if limit:
        from remnant.lab.debugging.trials import restore_trial, with_restored

        run([trial])
        restoration = restore_trial(trial, shelf, limit=limit[0], at_most=limit[1], root=root)
        trial = replace(trial, scheme=with_restored(wanted, restoration.layers))
    pair = [replace(trial, scheme=Dense()), trial]
    run(pair)
    people = population.load(shelf, pair)
    asked = [name for name in QUESTIONS if name in analyses.ANALYSES]
    return Compression(trial, shelf, analyses.audit(people, asked), people, found, tuple(skipped), restoration, root)


_OURS = (*(f"model.{name}" for name in FORMATS), "search.csv")
"""Files of a model in its folder, besides the report and the manifest."""


def write(
    done: Compression,
    out: str | Path,
    *,
    formats: Sequence[str] = FORMATS,
    pictures: bool = True,
    command: Sequence[str] | None = None,
) -> dict[str, Path]:
    """The compressed model as files, the report of what it changed, and a manifest over all; their paths by name.

    Files take raw pixels where the data are pictures: the normalization is part of the graph (safetensors: weights
    only, with the metadata that says how to use them). The manifest holds the hash of the dense weights, scheme, seed,
    recipe, skipped layers, the search and the main numbers of the audit; `remnant verify` checks it.

    Raises
    ------
    ValueError
        If a format is unknown, its extra is not installed, or torch cannot export the model. All else is written first.
    """
    out = Path(out)
    shown = population.thumbnails(done.store, done.population) if pictures else None
    about = {**done.audit.about, "compression": describe(done)}
    audit = replace(done.audit, about=about)
    written = dict(report.write(audit, out, thumbnails=shown))
    for name in _OURS:
        (out / name).unlink(missing_ok=True)  # of an earlier model, it would pass for one of this
    exported, refused = _exported(done, out, formats)
    written |= exported
    if done.search is not None:
        written["search.csv"] = out / "search.csv"
        done.search.to_frame().to_csv(written["search.csv"], index=False)
    written |= manifest.write(out, audit, command=command)
    if refused:
        raise ValueError(f"{' '.join(refused)} Everything else is in {out}.")
    return written


def describe(done: Compression) -> dict[str, Any]:
    """What a manifest says about a compression, as plain data."""
    found = {
        "scheme": to_dict(done.trial.scheme),
        "label": done.trial.scheme.label,
        "seed": done.trial.seed,
        "recipe": to_dict(done.trial.recipe),
        "trial": done.trial.key,
        "parents": [parent.key for parent in _ancestors(done.trial)],
        "dense_weights": done.trial.recipe.weights or _weights_hash(done),
        "data_fingerprint": done.store.manifest(done.trial)["dataset"],
        "skipped": list(done.skipped),
        "footprint": done.footprint,
        "summary": summary(done),
    }
    if done.search is not None:
        held_out = {
            name: [_finite(value) for value in (one.estimate, one.low, one.high)]
            for name, one in done.search.held_out.items()
        }
        found["search"] = {
            "budget": done.search.budget.text,
            "reachable": done.search.reachable,
            "confirmed": done.search.confirmed,
            "reason": done.search.reason,
            "samples": len(done.search.samples),
            "held_out": held_out,
        }
    if done.restoration is not None:
        names = ("layers", "reached", "before", "selected", "held_out_before", "held_out", "held_out_interval")
        found["restoration"] = {name: getattr(done.restoration, name) for name in (*names, "steps", "unmatched")}
    return json.loads(json.dumps(found))


def summary(done: Compression) -> dict[str, float]:
    """The main numbers of the audit on all test examples: accuracies, mismatches and harmful flips."""
    dense, compressed = population.predictions(done.population)
    label = np.asarray(done.population["label"])
    right, still = dense == label, compressed == label
    return {
        "examples": float(len(label)),
        "dense_accuracy": float(right.mean()),
        "accuracy": float(still.mean()),
        "cie": float((dense != compressed).sum()),
        "cie_u": float((right & ~still).sum()),
    }


def template(scheme: str | Scheme, align: str | Align | None, *, searched: bool) -> Scheme:
    """The scheme that is meant, with alignment losses in every part that trains and has none of its own."""
    assumed = {"sparsity": 0.5} if searched else None
    found = parse_scheme(scheme, assumed=assumed) if isinstance(scheme, str) else scheme
    if align is None:
        return found
    losses = parse_align(align) if isinstance(align, str) else align
    changed = _aligned(found, losses)
    if changed == found:
        raise ValueError(
            f"Expected a scheme that trains for `align`, but {found.label!r} does not, or has losses of its own. "
            "Take one with epochs, such as 'one-shot-pruning'."
        )
    return changed


def restore_limit(text: str) -> tuple[Literal["cie_u", "cie"], float]:
    """The quantity and the largest share that a text such as "cie_u<=0.5%" allows.

    Raises
    ------
    ValueError
        If it is not "cie_u<=AMOUNT" or "cie<=AMOUNT", with an amount in [0, 1].
    """
    name, comparison, share = (part.strip() for part in text.partition("<="))
    if not comparison or name not in ("cie_u", "cie"):
        raise ValueError(f"Expected `restore_until` such as 'cie_u<=0.5%' or 'cie<=1%', but got {text!r}.")
    return ("cie_u" if name == "cie_u" else "cie"), amount(share, "share", "restore_until")


def strength_field(scheme: Scheme, path: str = "") -> str:
    """The path of the field that makes the scheme stronger, such as "sparsity" or "parts.0.sparsity".

    Raises
    ------
    ValueError
        If there is none.
    """
    for name in BOUNDS:
        if any(one.name == name for one in fields(scheme)) and getattr(scheme, name) is not None:
            return path + name
    inner = scheme.parts if isinstance(scheme, Compose) else ()
    for index, part in enumerate(inner):
        try:
            return strength_field(part, f"{path}parts.{index}.")
        except ValueError:
            continue
    if isinstance(nested := getattr(scheme, "scheme", None), Scheme):
        return strength_field(nested, f"{path}scheme.")
    raise ValueError(
        f"Expected a scheme with a strength ({', '.join(BOUNDS)}) for a budget, but {scheme.label!r} has none. "
        "Leave the budget out."
    )


def _aligned(scheme: Scheme, align: Align) -> Scheme:
    if isinstance(scheme, Compose):
        return replace(scheme, parts=tuple(_aligned(part, align) for part in scheme.parts))
    trains = isinstance(scheme, TunedScheme) and scheme.epochs > 0 and scheme.align is None
    return replace(scheme, align=align) if trains else scheme


def _recipe(
    model: str, data: str, store: Store, seed: int, root: str | None, settings: dict[str, Any]
) -> tuple[Recipe, Store]:
    """The recipe whose dense model is meant, and the store of its trials."""
    if (shelf := Store(model)).exists():
        dense = [trial for trial in shelf.trials() if trial.scheme == Dense() and trial.subset is None]
        recipes = list(dict.fromkeys(trial.recipe for trial in dense if trial.seed == seed))
        fitting = [recipe for recipe in recipes if data in ("", recipe.dataset)]
        if not recipes:
            seeds = sorted({trial.seed for trial in dense})
            raise ValueError(f"Expected a dense model of seed {seed} in {model!r}, but it holds seeds {seeds}.")
        if not fitting:
            raise ValueError(f"Expected no `data` for a store: its models were trained on {recipes[0].dataset!r}.")
        if len(fitting) > 1:
            listed = ", ".join(f"{recipe.architecture} on {recipe.dataset}" for recipe in fitting)
            raise ValueError(
                f"Expected a store with dense models of one recipe, but {model!r} has {len(fitting)}: {listed}. "
                "Keep each in a store of its own."
            )
        return fitting[0], shelf
    if not data:
        raise ValueError("Expected `data`, the data set to train, calibrate and test on, such as 'cifar10'.")
    from remnant.lab.given import given_recipe

    return given_recipe(model, data, root=root, **settings), store


def _rehearsed(trial: Trial, root: str | None, refuse: bool) -> list[str]:
    from remnant.lab.given import rehearse

    skipped = rehearse(trial, root)
    if skipped and refuse:
        raise ValueError(
            f"Expected that {trial.scheme.label!r} compresses every layer, but it leaves out: {'; '.join(skipped)}."
        )
    return skipped


def _exported(done: Compression, out: Path, formats: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """The files of the model, and why others cannot be written."""
    from remnant.lab import export
    from remnant.lab.given import normalization
    from remnant.lab.run import dataset_of
    from remnant.registry import unknown

    model, dataset = done.model(), dataset_of(done.trial, done.store, done.root)
    about = {"scheme": done.trial.scheme.label, "classes": json.dumps(list(dataset.classes)), "trial": done.trial.key}
    graph = {"normalize": normalization(dataset), "metadata": about}
    written, refused = {}, []
    for name in formats:
        path = out / f"model.{name}"
        try:
            if name == "safetensors":
                export.to_safetensors(model, path, metadata=about)
            elif name == "pt2":
                export.to_exported_program(model, dataset.input_shape, path, **graph)
            elif name == "onnx":
                export.to_onnx(model, dataset.input_shape, path, **graph)
            else:
                raise unknown("format", name, FORMATS)
            written[path.name] = path
        except ValueError as error:
            refused.append(f"{path.name}: {error}")
    return written, refused


def _finite(value: float | None) -> float | None:
    """JSON has neither infinity nor NaN."""
    return value if value is not None and math.isfinite(value) else None


def _ancestors(trial: Trial) -> list[Trial]:
    found = []
    while (parent := trial.parent) is not None:
        found.append(parent)
        trial = parent
    return found


def _weights_hash(done: Compression) -> str:
    """SHA-256 of the stored weights of the dense model."""
    import hashlib

    digest = hashlib.sha256()
    for name, array in sorted(done.store.read(replace(done.trial, scheme=Dense()), "weights").items()):
        digest.update(f"{name}\0{array.dtype}\0{array.shape}\0".encode() + array.tobytes())
    return digest.hexdigest()
