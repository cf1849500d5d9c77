"""Trained digit classifiers, made once."""

import pytest

from remnant.execute import run
from remnant.schemes import Dense, OneShotPruning
from remnant.store import Store
from remnant.trial import Recipe, Trial

WITH_NORM = Recipe("digits", "cnn-8", steps=60, batch_size=64)
WITHOUT = Recipe("digits", "mlp-32", steps=120, batch_size=64)


@pytest.fixture(scope="package")
def store(tmp_path_factory):
    """A store with one network with and two without batch norm, and a pruned one, which no audit of data takes."""
    folder = tmp_path_factory.mktemp("fidelity") / "store"
    dense = [Trial(WITH_NORM, Dense(), 0), Trial(WITHOUT, Dense(), 0), Trial(WITHOUT, Dense(), 1)]
    run([*dense, Trial(WITHOUT, OneShotPruning(sparsity=0.5), 0)], Store(folder), engine="serial")
    return str(folder)


@pytest.fixture(scope="package")
def bench(store):
    from remnant import fidelity

    return fidelity.bench(store=store, train_images=300)
