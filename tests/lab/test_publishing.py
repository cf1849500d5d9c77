import numpy as np
import torch

from remnant.analyses.subset_trials import correctness
from remnant.lab import data, probe
from remnant.lab.models import build
from remnant.lab.publishing import Made, publish
from remnant.population import load, predictions
from remnant.store import Store
from remnant.trial import Recipe, Trial

RECIPE = Recipe("digits", "mlp-16")


def made(dataset: data.Dataset, seed: int) -> Made:
    trial = Trial(RECIPE, seed=seed)
    model = build(RECIPE.architecture, dataset.input_shape, 10, trial.rng("init"))
    return Made(trial, model, np.arange(len(dataset.train)) % 2 == seed % 2, 1.5)


def test_models_that_are_evaluated_together_get_the_answers_that_each_gets_alone():
    dataset = data.load("digits")
    models = [made(dataset, seed).model.train() for seed in range(3)]
    found = probe.logits_of_all(models, dataset, dataset.test)
    for model, logits in zip(models, found, strict=True):
        assert np.array_equal(probe.logits(model, dataset, dataset.test), logits)
        assert model.training


def test_what_is_stored_is_what_the_model_answers(tmp_path):
    dataset, store = data.load("digits"), Store(tmp_path)
    several = [made(dataset, seed) for seed in range(2)]
    assert publish(several, dataset, store) == []
    for one in several:
        stored, manifest = store.read(one.trial), store.manifest(one.trial)
        logits = probe.logits(one.model, dataset, dataset.train)
        assert np.array_equal(stored["train_prediction"], logits.argmax(1))
        assert np.array_equal(np.unpackbits(stored["included"])[: len(one.in_subset)], one.in_subset)
        right = (logits.argmax(1) == dataset.train.labels.numpy())[one.in_subset]
        assert manifest["accuracy"]["train"] == right.mean()
        assert manifest["seconds"]["train"] == 1.5
        assert manifest["footprint"]["parameters"] == sum(p.numel() for p in one.model.parameters())


def test_a_model_without_finite_answers_is_not_stored_and_costs_no_other(tmp_path):
    dataset, store = data.load("digits"), Store(tmp_path)
    several = [made(dataset, seed) for seed in range(3)]
    with torch.no_grad():
        next(several[1].model.parameters()).fill_(torch.nan)
    (failure,) = publish(several, dataset, store)
    assert "Expected finite logits" in str(failure)
    assert [one.trial in store for one in several] == [True, False, True]


def test_nothing_made_is_nothing_stored(tmp_path):
    assert publish([], data.load("digits"), Store(tmp_path)) == []
    assert not list(tmp_path.iterdir())


def test_with_many_classes_a_population_has_the_answers_of_the_exact_logits(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.random((300, 4, 4), np.float32), np.arange(300) % 150
    np.savez(
        tmp_path / "many.npz", train_images=images, train_labels=labels, test_images=images[::-1], test_labels=labels
    )
    recipe = Recipe("arrays:many.npz", "mlp-16")
    dataset, store = data.load(recipe.dataset, str(tmp_path)), Store(tmp_path / "runs")
    trial = Trial(recipe)
    model = build(recipe.architecture, dataset.input_shape, 150, trial.rng("init"))
    assert publish([Made(trial, model, np.ones(300, bool), 1.0)], dataset, store) == []
    people, exact = load(store), probe.logits(model, dataset, dataset.test)
    assert people["logits"].dtype == np.float16
    assert np.array_equal(predictions(people)[0], exact.argmax(axis=1))
    below = exact - exact.max(axis=1, keepdims=True)
    np.testing.assert_allclose(people["logits"].values[0], below, rtol=1e-3, atol=1e-7)
    assert np.array_equal(correctness(people)[0], exact.argmax(axis=1) == labels)


def test_margins_beyond_half_precision_stay_finite(tmp_path):
    dataset, store = data.load("digits"), Store(tmp_path)
    one = made(dataset, 0)
    with torch.no_grad():
        for parameter in one.model.parameters():
            parameter *= 1_000
    assert publish([one], dataset, store) == []
    margin = store.read(one.trial)["train_margin"].astype(float)
    assert (
        np.abs(probe.margins(probe.logits(one.model, dataset, dataset.train), dataset.train.labels.numpy())).max() > 1e5
    )
    assert np.abs(margin).max() == 65_504
