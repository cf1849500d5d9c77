"""Populations as files of models made elsewhere give them, with known truth."""

import numpy as np
import xarray as xr


def population(
    seed: int = 0,
    *,
    sides: dict[str, int] | None = None,
    num_examples: int = 300,
    num_classes: int = 5,
    noise: float = 1.0,
    labels: bool = True,
    logits: bool = True,
    text: bool = False,
) -> xr.Dataset:
    """Files of each side; the first side is the reference. Every model adds `noise` of its own to a common signal."""
    rng = np.random.default_rng(seed)
    sides = {"net": 1, "net-int8": 1} if sides is None else sides
    label = np.arange(num_examples) % num_classes
    signal = rng.normal(0, 0.4, (num_examples, num_classes))
    signal[np.arange(num_examples), label] += rng.uniform(0, 4, num_examples)
    names = [(side, number) for side, total in sides.items() for number in range(total)]
    outputs = (signal + rng.normal(0, noise, (len(names), *signal.shape))).astype(np.float16)
    variables: dict = (
        {"logits": (("trial", "example", "class"), outputs)}
        if logits
        else {"prediction": (("trial", "example"), outputs.argmax(axis=-1).astype(np.int8))}
    )
    if labels:
        variables["label"] = ("example", label.astype(np.int16))
    if text:
        variables["text"] = ("example", np.array([f"question  {i}\n<b>?" for i in range(num_examples)], object))
        options = [[f"answer {i}.{c}" for c in range(num_classes)] for i in range(num_examples)]
        variables["option"] = (("example", "class"), np.array(options, object))
    return xr.Dataset(
        variables,
        coords={
            "trial": [f"{side}/{number}" for side, number in names],
            "scheme": ("trial", [side for side, _ in names]),
            "seed": ("trial", [number for _, number in names]),
            "subset": ("trial", np.full(len(names), -1)),
            "example": np.arange(num_examples)[::-1] * 10,
            "class": [f"class {c}" for c in range(num_classes)],
            "group_site": ("example", np.where(np.arange(num_examples) % 3 == 0, "A", "B")),
        },
        attrs={"reference": next(iter(sides))},
    )
