from dataclasses import replace

import numpy as np
import pytest
import torch

from remnant.lab import probe
from remnant.lab.difficulty import DYNAMICS, _Record, _Recorder, _Watched, dynamics, score_cohort, score_name
from remnant.lab.models import build
from remnant.lab.train import train
from remnant.stats.difficulty import el2n, forgetting_events
from remnant.store import Store
from remnant.trial import Recipe, Trial
from tests.lab import toys

RECIPE = Recipe("toy", "mlp-16", epochs=6, batch_size=32, learning_rate=0.1)
TRIAL = Trial(RECIPE, seed=3)


def network(trial: Trial = TRIAL):
    return build(trial.recipe.architecture, toys.SHAPE, toys.NUM_CLASSES, trial.rng("init"))


class Diary:
    """A training hook that answers all examples before every step, to replay the training from outside."""

    def __init__(self, model, data):
        self.model, self.data, self.logits = model, data, []

    def before_step(self, step, num_steps):
        self.logits.append(probe.logits(self.model, self.data, self.data.train))

    def settled(self, step, num_steps):
        return True

    def finish(self):
        pass


def replay(trial: Trial, data, num_epochs: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Batches of a training, drawn anew from its "order" stream, and the logits of all examples before each."""
    model = network(trial)
    diary = Diary(model, data)
    number = len(data.train.labels)
    train(model, trial.recipe, data, np.arange(number), trial.rng, hook=diary)
    rng, size, batches = trial.rng("order"), trial.recipe.batch_size, []
    for _ in range(num_epochs):
        mixed = rng.permutation(number)
        batches += [mixed[k * size : (k + 1) * size] for k in range(number // size)]
    return batches, diary.logits


def test_forgetting_and_margin_are_those_of_a_replayed_training():
    data = toys.dataset(num_train=96)  # three batches of 32 an epoch, none left over
    found = dynamics(TRIAL, data, epoch=1)
    batches, logits = replay(TRIAL, data, 6)
    labels = data.train.labels.numpy()
    right, margins = np.zeros((6, 96), bool), np.zeros((6, 96))
    for step, (batch, answers) in enumerate(zip(batches, logits, strict=True)):
        right[step // 3, batch] = (answers.argmax(axis=1) == labels)[batch]
        margins[step // 3, batch] = probe.margins(answers, labels)[batch]
    assert (found["forgetting"] == forgetting_events(right)).mean() > 0.97  # batches of other sizes differ in last bits
    assert found["margin"] == pytest.approx(-margins.mean(axis=0), abs=1e-4)


def test_el2n_is_taken_at_its_epoch():
    data = toys.dataset(num_train=96)
    _, logits = replay(TRIAL, data, 6)
    labels = data.train.labels.numpy()
    for epoch in (0, 1, 4):
        assert dynamics(TRIAL, data, epoch)["el2n"] == pytest.approx(el2n(logits[3 * epoch], labels), abs=1e-6)


def test_el2n_of_a_later_epoch_is_that_of_the_end():
    data = toys.dataset(num_train=96)
    model = train(network(), RECIPE, data, np.arange(96), TRIAL.rng)
    expected = el2n(probe.logits(model, data, data.train), data.train.labels.numpy())
    assert dynamics(TRIAL, data, 99)["el2n"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("augmentation", [(), ("crop", "flip")])
def test_watching_does_not_change_the_training(augmentation):
    data = toys.dataset(num_train=100)
    trial = replace(TRIAL, recipe=replace(RECIPE, augmentation=augmentation, epochs=2))
    plain = train(network(trial), trial.recipe, data, np.arange(100), trial.rng)
    watched = _Watched(data.train.images)
    model = network(trial)
    model.register_forward_hook(_Record(data.train.labels.numpy(), watched))
    seen = replace(data, train=replace(data.train, images=watched))
    train(model, trial.recipe, seen, np.arange(100), trial.rng, hook=_Recorder(model, data, 2))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_mislabelled_examples_are_hard():
    data = toys.dataset(num_train=400)
    labels = data.train.labels.clone()
    labels[:20] = (labels[:20] + 1) % toys.NUM_CLASSES
    wrong = replace(data, train=replace(data.train, labels=labels))
    found = dynamics(TRIAL, wrong, epoch=2)
    for name, least in {"forgetting": 0.5, "el2n": 0.9, "margin": 0.9}.items():
        above = found[name][:20, None] - found[name][20:]
        assert np.mean((above > 0) + 0.5 * (above == 0)) > least, name  # area under the ROC curve


def test_examples_that_were_never_shown_get_the_median():
    data = toys.dataset(num_train=100)
    one_step = replace(TRIAL, recipe=replace(RECIPE, steps=1))
    found = dynamics(one_step, data, epoch=1)
    batch = one_step.rng("order").permutation(100)[:32]
    rest = np.setdiff1d(np.arange(100), batch)
    assert (found["margin"][rest] == np.median(found["margin"][batch])).all()
    assert len(np.unique(found["margin"][batch])) > 20


def test_scores_are_kept_and_not_made_twice(tmp_path, monkeypatch):
    trial = Trial(Recipe("digits", "mlp-16", epochs=1), seed=1000)
    store = Store(tmp_path)
    score_cohort((trial,), store=store.root, epoch=1)
    record, found = store.item("scores", score_name(trial, 1), "scores")
    assert set(found) == set(DYNAMICS)
    assert found["el2n"].shape == (1442,)
    assert record["seed"] == 1000
    monkeypatch.setattr("remnant.lab.difficulty.dynamics", None)
    score_cohort((trial,), store=store.root, epoch=1)
