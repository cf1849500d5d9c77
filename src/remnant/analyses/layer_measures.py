"""What single layers do to the answers of one compressed scheme, over pairs of models of the same seed."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.feature_pairs import Ends, answers_of, over_pairs, seed_pairs
from remnant.finding import NotApplicable
from remnant.population import reference_of
from remnant.stats.layer_counts import LayerCounts, decibels, layer_counts
from remnant.stats.rates import newcombe_paired, wilson
from remnant.stored_array import unpack_text

Values = NDArray[np.float64]
_DENSE = "dense"
"""Label of the models whose layers the probe exchanges with those of compressed ones."""


@dataclass(frozen=True)
class Part:
    """One scheme. Arrays have a first dimension for pairs."""

    scheme: str
    label: NDArray[np.integer]
    """True classes, shape (example,)."""
    names: tuple[str, ...]
    """Of the layers, in the order of the network."""
    reference: NDArray[np.integer]
    """Answers, shape (pair, example)."""
    compressed: NDArray[np.integer]
    alone: NDArray[np.integer]
    """Answers of the reference with one layer compressed, shape (pair, layer, example)."""
    restored: NDArray[np.integer]
    """Answers of the compressed model with one layer restored, shape (pair, layer, example)."""
    halves: dict[str, NDArray[np.integer]]
    """"weights" and "activations": answers with only these rounded, shape (pair, example), if it is quantized."""
    powers: dict[str, NDArray[np.floating]]
    """"signal", "local", "accumulated": sums of squares, shape (pair, layer, example); NaN where not known."""
    bytes: tuple[Values, Values]
    """Of each layer in reference and compressed model, mean over pairs; NaN where not known."""

    @property
    def num_pairs(self) -> int:
        return len(self.reference)

    @property
    def num_examples(self) -> int:
        return len(self.label)

    @cached_property
    def counts(self) -> list[LayerCounts]:
        """Of each pair."""
        answers = zip(self.reference, self.compressed, self.alone, self.restored, strict=True)
        return [layer_counts(self.label, *one) for one in answers]

    @cached_property
    def is_known(self) -> NDArray[np.bool_]:
        """Layers that can be exchanged in every pair, shape (layer,)."""
        return np.all([count.is_known for count in self.counts], axis=0)

    def rates(self, name: str) -> Values:
        """A count as share of the examples: shape (pair,), or (pair, layer) with NaN for layers not known."""
        found = np.array([getattr(count, name) for count in self.counts], float) / self.num_examples
        return np.where(self.is_known, found, np.nan) if found.ndim == 2 else found

    def mean(self, name: str) -> Values:
        """The same, mean over pairs."""
        return self.rates(name).mean(axis=0)

    @property
    def change(self) -> Values:
        """CIE-U rate with that layer restored, less that of the compressed model; mean over pairs, shape (layer,)."""
        return self.mean("cie_u_restored") - self.mean("cie_u")

    def lost_alone(self, layer: int) -> NDArray[np.bool_]:
        """Right answers that are lost with that layer alone compressed, shape (pair, example)."""
        return (self.reference == self.label) & (self.alone[:, layer] != self.label)

    def lost_restored(self, layer: int) -> NDArray[np.bool_]:
        """Right answers that stay lost, or are lost newly, with that layer alone restored, shape (pair, example)."""
        return (self.reference == self.label) & (self.restored[:, layer] != self.label)

    @property
    def lost(self) -> NDArray[np.bool_]:
        """Right answers that the compressed model has lost, shape (pair, example)."""
        return (self.reference == self.label) & (self.compressed != self.label)

    def ratio(self, noise: str, *, flipped: bool = False) -> Values:
        """Signal-to-noise ratio of each layer in dB over all pairs and examples, or over those that changed answer.

        Inf where there is no noise, NaN where it is not known or no answer changed.
        """
        rows = (self.compressed != self.reference) if flipped else np.ones(self.reference.shape, bool)
        if not rows.any():
            return np.full(len(self.names), np.nan)
        signal, noise_power = (
            np.where(rows[:, None], self.powers[name], 0).sum(axis=(0, 2)) for name in ("signal", noise)
        )
        return decibels(signal, noise_power)


def parts(measured: xr.Dataset, population: xr.Dataset, reference: str | None = None) -> list[Part]:
    """The schemes beside their dense models.

    Raises
    ------
    NotApplicable
        If the reference is not the dense model, or no compressed one was probed.
    SchemaError
        If a scheme has no seed in common with the reference.
    """
    reference = reference_of(population) if reference is None else reference
    if reference != _DENSE:
        raise NotApplicable(
            f"Expected the reference to be {_DENSE!r}, whose layers were exchanged with those of compressed models, "
            f"but got {reference!r}. Compare with the dense models."
        )
    answers, label = answers_of(population, measured), measured["label"].values
    names = tuple(unpack_text(measured["names"].values[0].astype(np.uint8)))
    found = []
    for pairs in seed_pairs(measured, population, reference):
        own = measured.isel(trial=pairs.second)
        found.append(
            Part(
                scheme=pairs.scheme,
                label=label,
                names=names,
                reference=answers[pairs.first],
                compressed=answers[pairs.second],
                alone=_by_layer(own["alone"]),
                restored=_by_layer(own["restored"]),
                halves=_halves(own),
                powers={name: _power(own[variable]) for name, variable in _POWERS.items()},
                bytes=(_bytes(own["reference_bytes"]), _bytes(own["compressed_bytes"])),
            )
        )
    return found


def share_interval(flags: NDArray[np.bool_]) -> Ends:
    """Of a share, from flags (pair, example): over pairs, or Wilson's over the examples of a single one."""
    if len(flags) > 1:
        ends = over_pairs(flags.mean(axis=1))
        return None if ends is None else (max(ends[0], 0.0), min(ends[1], 1.0))
    low, high = wilson(flags.sum(), flags.size)
    return float(low), float(high)


def change_interval(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Ends:
    """Of share(after) - share(before), flags (pair, example): over pairs, or Newcombe's paired one over examples."""
    if len(before) > 1:
        return over_pairs(after.mean(axis=1) - before.mean(axis=1))
    cells = [(after & before), (after & ~before), (~after & before), (~after & ~before)]
    low, high = newcombe_paired(*(cell.sum() for cell in cells))
    return float(low), float(high)


def number_interval(values: Values) -> Ends:
    """Of a mean over pairs; none for a single one."""
    return over_pairs(values)


_POWERS = {"signal": "signal", "local": "local_noise", "accumulated": "accumulated_noise"}


def _by_layer(answers: xr.DataArray) -> NDArray[np.integer]:
    return answers.transpose("trial", "layer", "example").values


def _halves(own: xr.Dataset) -> dict[str, NDArray[np.integer]]:
    found = {name: own[f"{name}_only"].values for name in ("weights", "activations")}
    return {name: answers for name, answers in found.items() if (answers >= 0).all()}


def _power(values: xr.DataArray) -> NDArray[np.floating]:
    power = _by_layer(values).astype(float)
    return np.where(power >= 0, power, np.nan)


def _bytes(values: xr.DataArray) -> Values:
    sizes = values.values.astype(float)
    return np.where(sizes >= 0, sizes, np.nan).mean(axis=0)
