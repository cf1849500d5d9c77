"""Which parts of an image a model's answer hangs on."""

import numpy as np
from scipy.special import softmax

from remnant.lab.decoded import Trained, logits


def occlusion(trained: Trained, shown: np.ndarray, classes: np.ndarray, *, patch: int = 4) -> np.ndarray:
    """How far the probability of a class falls when a grey square hides part of the image, (example, height, width).

    Squares of `patch` pixels move by half of that; a pixel has the mean over the squares that cover it. Falls only:
    where hiding raises the probability, 0.

    Parameters
    ----------
    classes
        The class of each example whose probability is watched.

    References
    ----------
    zeiler2014visualizing, section 4.2
    """
    number, height, width, _ = shown.shape
    rows = np.arange(number)
    falls, covered = np.zeros((number, height, width)), np.zeros((height, width))
    before = _probability(trained, shown)[rows, classes]
    step = max(1, patch // 2)
    for top in range(0, max(1, height - patch + 1), step):
        for left in range(0, max(1, width - patch + 1), step):
            hidden = shown.copy()
            square = (slice(top, top + patch), slice(left, left + patch))
            hidden[:, *square] = 128
            falls[:, *square] += (before - _probability(trained, hidden)[rows, classes])[:, None, None]
            covered[square] += 1
    return np.maximum(falls / np.maximum(covered, 1), 0)


def _probability(trained: Trained, shown: np.ndarray) -> np.ndarray:
    return softmax(logits(trained, shown).astype(np.float64), axis=1)
