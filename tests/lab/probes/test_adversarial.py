import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from remnant.lab import probing
from remnant.lab.compress import compress
from remnant.lab.dataset import take
from remnant.lab.probes import adversarial
from remnant.lab.probes.adversarial import lasting, measure
from remnant.lab.probing import Subject
from remnant.probes.adversarial import ABSENT, GRADIENTS, Adversarial
from remnant.schemes import DynamicInt8, MagnitudePruning, OneShotPruning, StaticInt8
from tests.lab import toys

PROBE = Adversarial(examples=30, budgets=(2, 6, 12), steps=3, adaptive_steps=4, targets=2, queries=8)


@pytest.fixture(scope="module")
def context():
    return toys.context()


@pytest.fixture(scope="module")
def dense(context):
    return toys.trained("residual", context)


@pytest.fixture(scope="module")
def pruned(dense, context):
    return compress(OneShotPruning(0.3, epochs=0), dense, context)


def subject(context, model, reference=None, probe=PROBE, rows=None):
    rows = probe.rows(64) if rows is None else rows
    return Subject(model, reference, context.dataset, rows, None, "dense", probe)


def right(found, context, name="prediction", rows=None):
    rows = PROBE.rows(64) if rows is None else rows
    return found[name] == context.dataset.test.labels.numpy()[rows][:, None, None]


@pytest.fixture(scope="module")
def of_dense(context, dense):
    return measure(PROBE, subject(context, dense))


@pytest.fixture(scope="module")
def of_pruned(context, dense, pruned):
    return measure(PROBE, subject(context, pruned, dense))


def test_the_reference_has_answers_to_its_own_attacks_only(of_dense):
    transfer = PROBE.attacks.index("transfer")
    assert (of_dense["on_reference"] == ABSENT).all()
    assert (of_dense["prediction"][:, transfer] == ABSENT).all()
    assert (np.delete(of_dense["prediction"], transfer, axis=1) != ABSENT).all()
    codes = [GRADIENTS[code] for code in of_dense["gradient"][0]]
    assert codes == ["own", "own", "not used", "not used", "own"]


def test_answers_to_unchanged_images_are_those_of_the_models(context, dense, pruned, of_pruned):
    images = toys.evaluation_images(context)[torch.from_numpy(PROBE.rows(64))]
    for model, name in ((pruned, "prediction"), (dense, "on_reference")):
        expected = toys.answers(model, images).argmax(axis=1)
        for attack in range(5):
            np.testing.assert_array_equal(of_pruned[name][:, attack, 0], expected)


def test_an_answer_that_was_wrong_stays_wrong(context, of_dense, of_pruned):
    for found, name in ((of_dense, "prediction"), (of_pruned, "prediction"), (of_pruned, "on_reference")):
        correct = right(found, context, name)
        assert (correct[..., 1:] <= correct[..., :-1]).all()
    assert right(of_dense, context)[:, 0, 0].mean() > 0.8 > right(of_dense, context)[:, 1, -1].mean()


def test_stronger_attacks_are_never_weaker(context, of_dense):
    correct = right(of_dense, context)
    fgsm, pgd, _, square, ensemble = np.moveaxis(correct, 1, 0)
    assert (pgd <= fgsm).all()
    assert pgd.sum() < fgsm.sum()
    assert ensemble[..., 1:].mean() <= pgd[..., 1:].mean() + 0.02
    assert pgd[..., 1:].sum() < square[..., 1:].sum()


def test_transfer_shows_what_pgd_made_on_the_reference(context, of_dense, of_pruned):
    pgd, transfer = PROBE.attacks.index("pgd"), PROBE.attacks.index("transfer")
    np.testing.assert_array_equal(of_pruned["on_reference"][:, transfer], of_dense["prediction"][:, pgd])
    # Attacks carry over, and the model's own do more.
    correct = right(of_pruned, context)[..., -1]
    assert correct[:, pgd].mean() <= correct[:, transfer].mean() < correct[:, PROBE.attacks.index("square")].mean()


def test_a_model_compressed_to_itself_answers_as_its_reference(context, dense, of_dense):
    found = measure(PROBE, subject(context, dense, dense))
    np.testing.assert_array_equal(found["prediction"], found["on_reference"])
    made = [place for place, name in enumerate(PROBE.attacks) if name != "transfer"]
    np.testing.assert_array_equal(found["prediction"][:, made], of_dense["prediction"][:, made])


def test_parts_give_the_columns_of_the_whole(context, dense, pruned, of_pruned):
    for column, part in enumerate(PROBE.parts()):
        found = measure(part, subject(context, pruned, dense, part))
        for name, values in found.items():
            np.testing.assert_array_equal(values[:, 0], of_pruned[name][:, column])


def test_an_examples_answers_do_not_depend_on_the_others(context, dense, pruned, of_pruned, monkeypatch):
    few = replace(PROBE, examples=9)
    places = np.searchsorted(PROBE.rows(64), few.rows(64))
    found = measure(few, subject(context, pruned, dense, few))
    monkeypatch.setattr("remnant.lab.probes.adversarial._VALUES", 4 * 192)
    again = measure(few, subject(context, pruned, dense, few))
    for name in ("prediction", "on_reference"):
        # Sums in another order may differ in their last bits, and a search may then take another turn.
        assert (found[name] == of_pruned[name][places]).mean() > 0.97
        assert (found[name] == again[name]).mean() > 0.97


@pytest.mark.parametrize("scheme", [StaticInt8(), DynamicInt8()], ids=lambda scheme: scheme.label)
def test_int8_models_are_not_robust_for_want_of_gradients(scheme, context, dense, of_dense):
    found = measure(PROBE, subject(context, compress(scheme, dense, context), dense))
    codes = [GRADIENTS[code] for code in found["gradient"][0]]
    assert codes == ["straight-through", "straight-through", "own", "not used", "straight-through"]
    ours, theirs = (right(one, context)[:, 1].mean(axis=0) for one in (found, of_dense))
    assert np.abs(ours - theirs).max() <= 0.1


def test_a_model_without_gradients_is_attacked_along_its_reference(context, dense):
    class Stepped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = dense

        def forward(self, images):
            return self.model((images * 16).floor() / 16)

    model = Stepped().eval()
    found = measure(PROBE, subject(context, model, dense))
    assert GRADIENTS[found["gradient"][0, 1]] == "reference"
    correct = right(found, context)[..., -1].mean(axis=0)
    assert correct[PROBE.attacks.index("pgd")] < correct[PROBE.attacks.index("square")]
    alone = measure(PROBE, subject(context, model))
    assert GRADIENTS[alone["gradient"][0, 1]] == "masked"
    # What the analysis must not take for robustness.
    assert right(alone, context)[:, 1, -1].mean() > correct[PROBE.attacks.index("pgd")] + 0.2


def test_models_are_left_as_they_were(context, dense):
    model = copy.deepcopy(dense).requires_grad_(True)
    model.zero_grad(set_to_none=True)
    frozen = next(model.parameters()).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure(PROBE, subject(context, model, dense))
    assert not model.training
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert [p.requires_grad for p in model.parameters()] == [p is not frozen for p in model.parameters()]
    assert all(p.grad is None for p in model.parameters())


def test_the_core_takes_the_arrays(context, dense, pruned, monkeypatch):
    monkeypatch.setattr(probing, "_implementation", lambda kind: adversarial)
    part = PROBE.parts()[0]
    assert set(probing.measure(part, subject(context, pruned, dense, part))) == set(PROBE.dims)


def test_trained_under_pruning_too(context, dense):
    model = toys.trained("residual", context, MagnitudePruning(0.5))
    part = PROBE.parts()[1]
    found = measure(part, subject(context, model, dense, part))
    assert (found["prediction"] != ABSENT).all()


def test_inputs_without_a_range_are_refused(context, dense):
    images = take(context.dataset.test.images, range(64)).float()
    floats = replace(context.dataset.test, images=images)
    other = replace(context.dataset, test=floats)
    with pytest.raises(ValueError, match="Expected pictures of 8 bits to attack.*'toy' holds torch.float32"):
        measure(PROBE, Subject(dense, None, other, PROBE.rows(64), None, "dense", PROBE))


def test_lasting_answers_by_hand():
    answers = np.array([[0, 1, 0, 2], [2, 2, 2, 2], [1, 0, 0, 0], [2, 2, 2, 0]])
    expected = [[0, 1, 1, 1], [2, 2, 2, 2], [1, 1, 1, 1], [2, 2, 2, 0]]
    assert lasting(answers, np.array([0, 2, 0, 2])).tolist() == expected
