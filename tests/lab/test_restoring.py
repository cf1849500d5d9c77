"""The model of a finished trial answers as it did when it was stored, without being trained again."""

import numpy as np
import pytest

from remnant import execute
from remnant.lab import probe
from remnant.lab.compress import tuning
from remnant.lab.run import cached_dataset, model_of
from remnant.schemes import Align, Compose, GradualPruning, OneShotPruning, QuantizationAwareTraining, Restored
from remnant.store import Store
from remnant.trial import Recipe, Trial
from tests.lab.test_scheme_contracts import EXAMPLES

RECIPE = Recipe("digits", "cnn-8", steps=30, batch_size=64)
PHYSICAL = OneShotPruning(0.5, structure="filter", physical=True, epochs=0)
CHAINS = [
    Compose((PHYSICAL, QuantizationAwareTraining(8, epochs=0.5))),
    Compose((GradualPruning(0.6, epochs=0.5), QuantizationAwareTraining(4, epochs=0.5, align=Align(("labels",))))),
    Compose((GradualPruning(0.6, epochs=0.5), Restored(("0",)))),
]
TRIALS = [Trial(RECIPE, scheme) for scheme in (*EXAMPLES, *CHAINS) if scheme.kind != "selected-data"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a trial of every scheme."""
    made = Store(tmp_path_factory.mktemp("restoring") / "store")
    execute.run(TRIALS, made, engine="serial")
    return made


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.scheme.label)
def test_a_finished_trial_answers_as_stored(trial, store, monkeypatch):
    monkeypatch.setattr(tuning, "train", None)  # nothing is trained again
    dataset = cached_dataset("digits", None)
    logits = probe.logits(model_of(trial, store), dataset, dataset.test)
    np.testing.assert_array_equal(logits, store.read(trial)["logits"])


def test_compositions_start_from_what_their_parts_but_the_last_made(store):
    first = Trial(RECIPE, GradualPruning(0.6, epochs=0.5))
    assert all(Trial(RECIPE, chain).parent == first for chain in CHAINS[1:])
    assert first in store
    assert Trial(RECIPE, CHAINS[1]).reference == Trial(RECIPE)  # what "labels" looks at
