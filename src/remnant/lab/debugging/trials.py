"""Restoring layers of a finished compression until few enough answers are lost."""

from dataclasses import replace

import torch

from remnant.lab.debugging.restoring import Limit, Restoration, restore_until
from remnant.lab.run import dataset_of, model_of
from remnant.lab.train import normalize, take
from remnant.schemes import Compose, Dense, Restored, Scheme
from remnant.store import Store
from remnant.trial import Trial


def restore_trial(
    trial: Trial, store: Store, *, limit: Limit = "cie_u", at_most: float = 0.005, root: str | None = None
) -> Restoration:
    """`restore_until` for a compressed trial and the dense one that it was made from, on the test examples.

    One half of them, drawn with the trial's seed, chooses the layers; the other half judges.

    Raises
    ------
    ValueError
        If a setting is out of its range, or the data are not those that the trial was trained on.
    """
    dataset = dataset_of(trial, store, root)
    reference = model_of(replace(trial, scheme=Dense()), store, root)
    compressed = model_of(trial, store, root)
    device = next(reference.parameters()).device
    images = take(dataset.test.images, torch.arange(len(dataset.test.labels)))
    return restore_until(
        reference,
        compressed.to(device),
        normalize(dataset, images.to(device)),
        dataset.test.labels,
        limit=limit,
        at_most=at_most,
        rng=trial.rng("restore"),
    )


def with_restored(scheme: Scheme, layers: tuple[str, ...]) -> Scheme:
    """The scheme with layers of the dense model as its last part; the scheme itself for no layers."""
    if not layers:
        return scheme
    parts = scheme.parts if isinstance(scheme, Compose) else (scheme,)
    return Compose((*parts, Restored(layers)))
