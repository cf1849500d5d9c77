"""How a trial's answers on the test examples are stored: logits, in half precision where there are many classes.

Rounded logits are what is left after the greatest one of each example is taken off: probabilities and margins stay the
same, and numbers near 0 are rounded least. The predicted classes are stored beside them.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from remnant.stats.agreement import top_class

ROUNDED_FROM = 100
"""Number of classes from which logits are nearly all that a trial takes on disk, and are rounded."""


def stored(logits: NDArray[np.floating]) -> dict[str, NDArray]:
    """The arrays to store of logits (example, class): "logits", and "prediction" where they were rounded.

    Logits that lie further apart than half precision reaches (65,504) stay as they are.
    """
    num_classes = logits.shape[-1]
    if num_classes < ROUNDED_FROM:
        return {"logits": logits}
    below = logits - logits.max(axis=-1, keepdims=True)
    if below.min(initial=0) < np.finfo(np.float16).min:
        return {"logits": logits}
    prediction = top_class(logits).astype(np.min_scalar_type(num_classes - 1))
    return {"logits": below.astype(np.float16), "prediction": prediction}


def predicted(arrays: Mapping[str, NDArray]) -> NDArray[np.integer]:
    """Predicted classes of a stored trial, shape (example,); of equal logits the first."""
    return arrays["prediction"] if "prediction" in arrays else top_class(arrays["logits"])


def bytes_of_answers(num_examples: int, num_classes: int) -> int:
    """What `stored` takes of float32 logits."""
    if num_classes < ROUNDED_FROM:
        return 4 * num_examples * num_classes
    return num_examples * (2 * num_classes + np.min_scalar_type(num_classes - 1).itemsize)
