"""Fine-tuning in which listed examples come more often."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from remnant import execute
from remnant.lab.compress.context import Context
from remnant.lab.compress.tuning import replayed, tuned, tuning_recipe
from remnant.lab.data import load
from remnant.lab.models import build
from remnant.lab.selection import Selection
from remnant.lab.train import course
from remnant.schemes import Align, OneShotPruning
from remnant.store import Store
from remnant.trial import Recipe, Trial

RECIPE = Recipe("digits", "mlp", epochs=1)
LISTED = np.arange(0, 300, 3)


def scheme(strength: float = 2, key: str = "0123456789abcdef") -> OneShotPruning:
    return OneShotPruning(
        0.5, epochs=1, align=Align(("distillation",), focus="selected", strength=strength, examples=key)
    )


def context(recipe: Recipe = RECIPE, **changes) -> Context:
    digits = load("digits")
    mask = np.isin(np.arange(len(digits.train.labels)), LISTED)
    found = Context(recipe, digits, np.arange(10, 200), Trial(recipe).rng, selection=lambda key: mask)
    return replace(found, **changes)


def test_listed_examples_come_one_plus_strength_times_and_others_once():
    times = Counter(replayed(scheme(3), context()).tolist())
    assert set(times) == set(range(10, 200))
    assert all(times[row] == (4 if row % 3 == 0 else 1) for row in times)


def test_replay_takes_as_many_steps_as_a_training_without():
    class Steps:
        seen = 0

        def before_step(self, step: int, num_steps: int) -> None:
            self.seen += 1

        def settled(self, step: int, num_steps: int) -> bool:
            return True

        def finish(self) -> None:
            pass

    data, steps = context(), Steps()
    model = build("mlp", data.dataset.input_shape, 10, np.random.default_rng(0))
    tuned(model, scheme(4), model, data, hook=steps)
    assert steps.seen == course(tuning_recipe(RECIPE, scheme()), len(data.indices))[0]


def test_strength_0_trains_as_without_a_focus():
    data, states = context(), []
    for align in (Align(("distillation",)), scheme(0).align):
        model = build("mlp", data.dataset.input_shape, 10, np.random.default_rng(0))
        tuned(model, replace(scheme(), align=align), model, data)
        states.append(model.state_dict())
    assert all((states[0][name] == states[1][name]).all() for name in states[0])


def test_a_trial_trains_with_the_selection_of_its_store(tmp_path):
    store, digits = Store(tmp_path), load("digits")
    ids = tuple(digits.train.ids[LISTED].tolist())
    listed = Selection("digits", digits.fingerprint, len(digits.train.ids), "listed", (ids,))
    listed.publish(store)
    trials = [Trial(RECIPE, scheme(strength, listed.key)) for strength in (0, 2)]
    execute.run(trials, store, engine="serial")
    without, focused = (store.read(trial, "weights") for trial in trials)
    assert any((without[name] != focused[name]).any() for name in without)


def test_a_selection_that_is_not_stored_is_an_error_that_says_where_to_put_it(tmp_path):
    with pytest.raises(execute.RunError, match="data select"):
        execute.run([Trial(RECIPE, scheme())], Store(tmp_path), engine="serial")


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="`validation` = 0"):
        replayed(scheme(), context(replace(RECIPE, validation=0.1)))
    with pytest.raises(ValueError, match="store that holds"):
        replayed(scheme(), context(selection=None))
    with pytest.raises(ValueError, match="to be whole"):
        scheme(1.5)
    with pytest.raises(ValueError, match="with focus='selected'"):
        Align(examples="0123456789abcdef")
    with pytest.raises(ValueError, match="with focus='selected'"):
        Align(focus="selected")
