"""What probes measured on the trials of a population: one xarray Dataset for each kind, loaded when it is asked for."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from remnant.probes import Probe, from_dict, settings, varying
from remnant.store import Store
from remnant.trial import Trial

_Stored = dict[str, tuple[Probe, str]]
"""Key of a trial to a part of a probe and the name of its item, for one part."""


@dataclass(frozen=True)
class Measurements(Mapping[str, xr.Dataset]):
    """Kind of probe to its measurements; see `measurements`."""

    store: Store
    parts: Mapping[str, tuple[_Stored, ...]]
    """Kind to its parts, each measured on the same trials."""
    trials: Mapping[str, Trial]
    """Trials by key."""
    examples: Mapping[str, xr.Dataset]
    """Split to its labels, ids and attribute columns, along `example`."""
    _loaded: dict[str, xr.Dataset] = field(default_factory=dict)

    def __getitem__(self, kind: str) -> xr.Dataset:
        if kind not in self._loaded:
            self._loaded[kind] = _load(self, self.parts[kind])
        return self._loaded[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __contains__(self, kind: object) -> bool:
        return kind in self.parts


def measurements(store: Store, trials: Sequence[Trial], examples: Mapping[str, xr.Dataset]) -> Measurements:
    """What was measured on the trials, by kind of probe.

    Of a kind that was measured with several settings, those with the most trials count, and of these the ones with
    the most examples. Of parts, such as corruptions, those that all these trials have.
    """
    wanted = {trial.key: trial for trial in trials}
    found: dict[tuple[str, str], dict[str, _Stored]] = defaultdict(lambda: defaultdict(dict))
    for name in store.items("probes"):
        key = name.partition("-")[0]
        if key in wanted:
            probe = from_dict(store.record("probes", name)["probe"])
            found[probe.kind, _shared(probe)][probe.key][key] = (probe, name)
    best: dict[str, tuple[_Stored, ...]] = {}
    for kind in dict.fromkeys(kind for kind, _ in found):
        choices = [parts for (other, _), parts in found.items() if other == kind]
        chosen = max(choices, key=_coverage)
        having = set().union(*chosen.values())
        complete = [part for part in chosen.values() if set(part) == having]
        best[kind] = tuple(sorted(complete, key=_order)) or (max(chosen.values(), key=len),)
    return Measurements(store, best, wanted, examples)


def _shared(probe: Probe) -> str:
    """The settings that parts of one probe have in common."""
    own = varying(probe)
    return repr(sorted((name, value) for name, value in settings(probe).items() if name not in own))


def _coverage(parts: dict[str, _Stored]) -> tuple[int, float]:
    probe = next(iter(next(iter(parts.values())).values()))[0]
    return len(set().union(*parts.values())), np.inf if probe.examples is None else probe.examples


def _order(part: _Stored) -> int:
    """Where a part stands among those of its kind; parts that the defaults do not have come last."""
    probe = next(iter(part.values()))[0]
    keys = [other.key for other in type(probe)().parts()]
    return keys.index(probe.key) if probe.key in keys else len(keys)


def _load(found: Measurements, parts: tuple[_Stored, ...]) -> xr.Dataset:
    keys = [key for key in found.trials if key in parts[0]]
    loaded = [_part(found, part, keys) for part in parts]
    probe = parts[0][keys[0]][0]
    joined = loaded[0] if probe.joins is None else xr.concat(loaded, probe.joins, data_vars="minimal", join="exact")
    trials = [found.trials[key] for key in keys]
    joined = joined.assign_coords(
        seed=("trial", [t.seed for t in trials]),
        scheme=("trial", [t.scheme.label for t in trials]),
        subset=("trial", [-1 if t.subset is None else t.subset.index for t in trials]),
    )
    own = varying(probe) if len(parts) > 1 else set()
    joined.attrs["probe"] = {name: value for name, value in settings(probe).items() if name not in own}
    return joined


def _part(found: Measurements, part: _Stored, keys: Sequence[str]) -> xr.Dataset:
    probe = part[keys[0]][0]
    arrays = [found.store.item("probes", part[key][1], "measured")[1] for key in keys]
    names = [name for name in probe.dims if all(name in one for one in arrays)]
    variables = {name: (("trial", *probe.dims[name]), np.stack([one[name] for one in arrays])) for name in names}
    examples = found.examples[probe.split].isel(example=arrays[0]["rows"])
    return examples.assign(variables).assign_coords(trial=list(keys), **_own_coords(probe, names))


def _own_coords(probe: Probe, names: Sequence[str]) -> dict[str, Any]:
    used = {dim for name in names for dim in probe.dims[name]}
    return {dim: values for dim, values in probe.coords().items() if dim in used}
