"""Scores per class as finite logits: logits as they are, probabilities as their logarithms."""

import numpy as np

from remnant.ingest.limits import Limits, hold

BLOCK = 2**22
"""Numbers that are looked at together."""

SUM_TOLERANCE = {2: 2e-2, 4: 2e-3, 8: 2e-3}
"""How far probabilities of a row may sum from 1, by bytes per number: 1,000 rounded float16 numbers drift
that far."""


def as_logits(scores: np.ndarray, how: str, limits: Limits) -> tuple[np.ndarray, str]:
    """Finite logits of shape (example, class), and a sentence on how the scores were read.

    Parameters
    ----------
    how
        "logits" (also log-probabilities), "probabilities", or "auto": probabilities if every row lies in [0, 1]
        and sums to 1, else logits.

    Raises
    ------
    ValueError
        If the shape or dtype is wrong, a number is NaN or infinite, or probabilities are not probabilities.
    """
    if how not in ("auto", "logits", "probabilities"):
        raise ValueError(f"Expected `scores` to be 'auto', 'logits' or 'probabilities', but got {how!r}.")
    _check_shape(scores, limits)
    row = first_row(scores, lambda block: ~finite(block).all(axis=1))
    if row is not None:
        column = int((~finite(scores[row : row + 1])).argmax())
        value = "NaN" if np.isnan(scores[row, column]) else "an infinite number"
        raise ValueError(
            f"Expected finite scores, but row {row} has {value} in class {column}. "
            "Leave such examples out, or write a large negative number such as -1e4 for a class that is ruled out."
        )
    if how == "logits":
        return scores, "logits"
    row = first_row(scores, _improbable)
    if row is None and len(scores):
        note = "probabilities" if how == "probabilities" else "probabilities (every row lies in [0, 1] and sums to 1)"
        return _logarithm(scores), f"{note}, as logarithms"
    if how == "auto":
        return scores, "logits (they are not probabilities)"
    numbers, total = scores[row], float(scores[row].astype(np.float64).sum())
    raise ValueError(
        f"Expected probabilities in [0, 1] that sum to 1, but row {row} reaches from {float(numbers.min()):.6g} to "
        f'{float(numbers.max()):.6g} and sums to {total:.6g}. If they are logits, say `scores="logits"`.'
    )


def finite(block: np.ndarray) -> np.ndarray:
    """Where numbers are finite; float16 by its bits, which is several times faster."""
    if block.dtype == np.float16:
        return (np.ascontiguousarray(block).view(np.uint16) & 0x7C00) != 0x7C00
    return np.isfinite(block)


def first_row(scores: np.ndarray, wrong) -> int | None:
    """The first row for which `wrong(block)` is true, looked for block by block; None if there is none."""
    step = max(1, BLOCK // max(1, scores.shape[1]))
    for start in range(0, len(scores), step):
        hits = wrong(scores[start : start + step])
        if hits.any():
            return start + int(hits.argmax())
    return None


def argmax(scores: np.ndarray) -> np.ndarray:
    """The class with the highest score of each row, int32; the first among equals."""
    out = np.empty(len(scores), np.int32)
    step = max(1, BLOCK // max(1, scores.shape[1]))
    for start in range(0, len(scores), step):
        block = scores[start : start + step]
        out[start : start + step] = (block.astype(np.float32) if block.dtype == np.float16 else block).argmax(axis=1)
    return out


def _check_shape(scores: np.ndarray, limits: Limits) -> None:
    if scores.ndim != 2:
        raise ValueError(f"Expected scores of shape (example, class), but got the shape {scores.shape}.")
    if scores.dtype.kind != "f" or scores.dtype.itemsize not in (2, 4, 8):
        raise ValueError(
            f"Expected scores of dtype float16, float32 or float64, but got {scores.dtype}. "
            "Convert them with `.astype('float32')` before saving."
        )
    hold("The classes number", scores.shape[1], limits, "classes")
    if scores.shape[1] < 2:
        raise ValueError(
            f"Expected scores of at least 2 classes, but got {scores.shape[1]}. For a binary classifier with one "
            "output z, write the two columns 0 and z."
        )


def _improbable(block: np.ndarray) -> np.ndarray:
    tolerance = SUM_TOLERANCE[block.dtype.itemsize]
    inside = (block.min(axis=1) >= 0) & (block.max(axis=1) <= 1 + tolerance)
    with np.errstate(over="ignore"):
        total = block.sum(axis=1, dtype=np.float64 if block.dtype == np.float64 else np.float32)
    return ~(inside & (np.abs(total - 1) <= tolerance))


def _logarithm(probabilities: np.ndarray) -> np.ndarray:
    """log(p), float32 (float64 stays), with p no smaller than the smallest normal number of its dtype."""
    smallest = float(np.finfo(probabilities.dtype).smallest_subnormal)
    wide = np.float64 if probabilities.dtype == np.float64 else np.float32
    out = np.empty(probabilities.shape, wide)
    step = max(1, BLOCK // probabilities.shape[1])
    for start in range(0, len(out), step):
        block = probabilities[start : start + step].astype(wide)
        out[start : start + step] = np.log(np.maximum(block, max(smallest, float(np.finfo(wide).tiny))))
    return out
