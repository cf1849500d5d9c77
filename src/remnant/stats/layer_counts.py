"""Where answers were lost: counts of changed answers with one layer compressed or restored, and signal to noise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class LayerCounts:
    """What single layers do to the answers on some examples. Arrays have shape (layer,)."""

    cie: int
    """Examples that the compressed model answers otherwise than the reference (CIEs)."""
    cie_u: int
    """Those of them that the reference answers right (CIE-Us)."""
    cie_alone: Counts
    """CIEs of the reference with that layer alone compressed."""
    cie_u_alone: Counts
    cie_restored: Counts
    """CIEs of the compressed model with that layer alone restored."""
    cie_u_restored: Counts
    regained: Counts
    """CIE-Us of the compressed model that are right again with that layer restored."""
    broken: Counts
    """CIE-Us with that layer restored that are none of the compressed model."""
    is_known: NDArray[np.bool_]
    """False for layers that cannot be exchanged: their counts are 0."""


def layer_counts(
    label: ArrayLike, reference: ArrayLike, compressed: ArrayLike, alone: ArrayLike, restored: ArrayLike
) -> LayerCounts:
    """Counts of changed answers for each layer; cie_u - cie_u_restored = regained - broken.

    All are 0 if compression changed nothing.

    Parameters
    ----------
    label, reference, compressed
        True class and the answers of both models, shape (example,).
    alone
        Answers of the reference with one layer of the compressed model, shape (layer, example); -1 where unknown.
    restored
        Answers of the compressed model with one layer of the reference, likewise.
    """
    label, reference, compressed, alone, restored = map(np.asarray, (label, reference, compressed, alone, restored))
    is_right = reference == label
    is_known = np.atleast_1d(((alone >= 0) & (restored >= 0)).all(axis=1))
    lost = is_right & (compressed != label)

    def count(flags: NDArray[np.bool_]) -> Counts:
        return np.where(is_known, np.count_nonzero(flags, axis=1), 0).astype(np.int64)

    return LayerCounts(
        cie=int(np.count_nonzero(compressed != reference)),
        cie_u=int(np.count_nonzero(lost)),
        cie_alone=count(alone != reference),
        cie_u_alone=count(is_right & (alone != label)),
        cie_restored=count(restored != reference),
        cie_u_restored=count(is_right & (restored != label)),
        regained=count(lost & (restored == label)),
        broken=count(is_right & ~lost & (restored != label)),
        is_known=is_known,
    )


def decibels(signal: ArrayLike, noise: ArrayLike) -> NDArray[np.float64]:
    """Signal-to-noise ratio, 10 log10(signal / noise) in dB, of two powers (sums of squares).

    0 dB: the noise is as strong as the signal; > 0: weaker. +inf without noise, -inf for noise without a signal,
    NaN where a power is NaN (unknown).
    """
    signal, noise = np.asarray(signal, float), np.asarray(noise, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 10 * (np.log10(signal) - np.log10(noise))
    unknown = np.isnan(signal) | np.isnan(noise)
    return np.where(unknown, np.nan, np.where(noise == 0, np.inf, ratio))
