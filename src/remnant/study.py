"""A study: the trials that one STUDY.toml asks for."""

import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from remnant import plan
from remnant.fields import build
from remnant.probes import Probe
from remnant.probes import from_dict as probe_from_dict
from remnant.recipes import recipe as preset
from remnant.registry import unknown
from remnant.schemes import Dense, Scheme, scheme_from_dict
from remnant.trial import Recipe, Trial


@dataclass(frozen=True)
class SubsetPlan:
    """How many trials on random training subsets, and of which design."""

    trials: int
    """Number of subsets; each is trained once per scheme."""
    design: str = "fixed"
    """How examples are drawn, such as "fixed", "pairs" or "doubly-balanced": see `remnant.plan.included`."""
    fraction: float = 0.7
    """Expected share of the training examples in a subset."""
    seed: int = 0
    """Seed of the design."""
    schemes: tuple[Scheme, ...] = (Dense(),)
    """Schemes whose memorization and influence are wanted."""

    def __post_init__(self) -> None:
        if self.trials < 2:
            raise ValueError(f"Expected `trials` >= 2, but got {self.trials!r}.")
        plan.rows(self.trials, design=self.design, fraction=self.fraction, seed=self.seed)


@dataclass(frozen=True)
class Study:
    """A recipe, the schemes to compare, the seeds of the populations and the subset trials."""

    recipe: Recipe
    schemes: tuple[Scheme, ...] = ()
    seeds: tuple[int, ...] = tuple(range(10))
    subsets: SubsetPlan | None = None
    probes: tuple[Probe, ...] = ()
    """What is measured on the trials besides their logits."""

    def trials(self) -> list[Trial]:
        """All trials of the study; dense ones are added as the reference."""
        trials = plan.grid(self.recipe, self.schemes, self.seeds)
        if self.subsets is not None:
            p = self.subsets
            trials += plan.subsets(
                self.recipe, p.trials, schemes=p.schemes, design=p.design, fraction=p.fraction, seed=p.seed
            )
        return trials


def read(path: str | Path) -> Study:
    """The study that a TOML file describes.

        schemes = ["float16", {kind = "magnitude-pruning", sparsity = 0.9}]
        seeds = 20                    # or a list
        probes = ["features"]         # optional; names, or tables with `kind` and settings

        [recipe]
        preset = "digits-mlp"         # optional; the other keys replace its fields
        epochs = 20

        [subsets]                     # optional
        trials = 200
        fraction = 0.7

    Raises
    ------
    ValueError
        Naming the file and key, what was expected and what came.
    """
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"Expected a study file, but {path} does not exist.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}.") from error
    try:
        return study_from_dict(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def study_from_dict(data: dict[str, Any]) -> Study:
    """A study from the plain data of a TOML file; see `read`."""
    known = ("recipe", "schemes", "seeds", "subsets", "probes")
    for name in data:
        if name not in known:
            raise unknown("key", name, known)
    if not isinstance(data.get("recipe"), dict):
        raise ValueError("Expected a table [recipe] with `dataset` and `architecture`, or with a `preset`.")
    found: dict[str, Any] = {"recipe": _recipe(data["recipe"])}
    if "schemes" in data:
        found["schemes"] = _schemes(data["schemes"], "schemes")
    if "seeds" in data:
        found["seeds"] = _seeds(data["seeds"])
    if "subsets" in data:
        if not isinstance(data["subsets"], dict):
            raise ValueError(f"Expected a table [subsets] with `trials`, but got subsets = {data['subsets']!r}.")
        subsets = dict(data["subsets"])
        if "schemes" in subsets:
            subsets["schemes"] = _schemes(subsets["schemes"], "subsets.schemes")
        found["subsets"] = build(SubsetPlan, subsets, "subsets")
    if "probes" in data:
        if not isinstance(data["probes"], list):
            raise ValueError(f"Expected `probes` to be a list of names or tables, but got {data['probes']!r}.")
        found["probes"] = tuple(probe_from_dict(item, f"probes[{i}]") for i, item in enumerate(data["probes"]))
    return Study(**found)


def _recipe(data: dict[str, Any]) -> Recipe:
    data = dict(data)
    if "preset" not in data:
        known = [f.name for f in fields(Recipe)]
        if unknown_keys := [name for name in data if name not in known]:
            raise ValueError(f"In `recipe`: {unknown('key', unknown_keys[0], [*known, 'preset'])}")
        return build(Recipe, data, "recipe")
    base = preset(data.pop("preset"))
    # Checked like any recipe, then only the named fields replace those of the preset.
    given = build(Recipe, {"dataset": base.dataset, "architecture": base.architecture, **data}, "recipe")
    return replace(base, **{name: getattr(given, name) for name in data})


def _schemes(data: Any, where: str) -> tuple[Scheme, ...]:
    if not isinstance(data, list):
        raise ValueError(f"Expected `{where}` to be a list of names or tables, but got {data!r}.")
    return tuple(scheme_from_dict(item, f"{where}[{i}]") for i, item in enumerate(data))


def _seeds(data: Any) -> tuple[int, ...]:
    if isinstance(data, int) and not isinstance(data, bool) and data >= 1:
        return tuple(range(data))
    if isinstance(data, list) and data and all(isinstance(s, int) and s >= 0 for s in data):
        return tuple(data)
    raise ValueError(f"Expected `seeds` to be a number of seeds >= 1 or a list of seeds >= 0, but got {data!r}.")
