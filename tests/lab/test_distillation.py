"""Knowledge distillation into another architecture."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from remnant.lab import models
from remnant.lab.compress import restore
from remnant.lab.compress.distillation import distilled
from remnant.lab.train import normalize, take, train
from remnant.registry import UnknownNameError
from remnant.schemes import SCHEMES, Align, scheme_from_dict
from remnant.schemes.distillation import Distillation
from remnant.trial import to_dict
from tests.lab.toys import NUM_CLASSES, SHAPE, answers, context, dataset, evaluation_images, trained

STUDENT = Distillation("cnn-4", epochs=2)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_the_student_has_the_architecture_and_answers_as_its_teacher():
    place = context()
    teacher = trained("residual", place)
    student = distilled(replace(STUDENT, epochs=10), teacher, place)
    expected = models.build("cnn-4", SHAPE, NUM_CLASSES, np.random.default_rng(0))
    assert [p.shape for p in student.parameters()] == [p.shape for p in expected.parameters()]
    images = evaluation_images(place)
    assert (answers(student, images).argmax(1) == answers(teacher, images).argmax(1)).mean() > 0.9


def test_the_student_learns_from_the_teacher_and_not_from_its_weights():
    """With distillation alone, labels that are wrong throughout change nothing."""
    place = context()
    teacher = trained("residual", place)
    scheme = replace(STUDENT, align=Align(("distillation",)))
    wrong = dataset()
    wrong.train.labels.add_(1).remainder_(NUM_CLASSES)
    first, second = (distilled(scheme, teacher, replace(place, dataset=data)) for data in (place.dataset, wrong))
    assert all(torch.equal(first.state_dict()[name], tensor) for name, tensor in state(second).items())
    other = distilled(scheme, trained("mlp", place), place)
    assert not all(torch.equal(first.state_dict()[name], tensor) for name, tensor in state(other).items())


def test_first_weights_depend_on_the_seed_alone():
    """Nearly no learning leaves the weights of the stream `distillation/init`."""
    place = context()
    scheme = replace(STUDENT, learning_rate=1e-12)
    expected = dict(models.build("cnn-4", SHAPE, NUM_CLASSES, place.rng("distillation/init")).named_parameters())
    for teacher in ("mlp", "residual"):
        found = dict(distilled(scheme, trained(teacher, place), place).named_parameters())
        assert all(torch.allclose(found[name], p, atol=1e-6) for name, p in expected.items())


def test_without_alignment_it_is_a_plain_training():
    place = context()
    scheme = replace(STUDENT, align=None, learning_rate=0.05)
    found = distilled(scheme, trained("mlp", place), place)
    expected = models.build("cnn-4", SHAPE, NUM_CLASSES, place.rng("distillation/init"))
    recipe = replace(place.recipe, epochs=2, learning_rate=0.05)
    train(expected, recipe, place.dataset, place.indices, lambda name: place.rng(f"distillation/{name}"))
    assert all(torch.equal(p, q) for p, q in zip(found.parameters(), expected.parameters(), strict=True))


def test_one_step_follows_the_gradient_of_the_loss():
    """SGD without momentum: w - rate * d/dw (T^2 KL(teacher || student)), teacher and student softened by T."""
    place = context()
    recipe = replace(
        place.recipe, batch_size=len(place.indices), momentum=0.0, nesterov=False, weight_decay=0.0, schedule="constant"
    )
    place = replace(place, recipe=recipe)
    teacher = trained("mlp", context())
    scheme = Distillation("mlp-8", epochs=1, learning_rate=0.5, align=Align(("distillation",), temperature=2.0))
    found = distilled(scheme, teacher, place)
    student = models.build("mlp-8", SHAPE, NUM_CLASSES, place.rng("distillation/init"))
    images = normalize(place.dataset, take(place.dataset.train.images, torch.from_numpy(place.indices)))
    with torch.no_grad():
        soft = functional.softmax(teacher.eval()(images) / 2, dim=1)
    loss = 4 * (soft * (soft.log() - functional.log_softmax(student(images) / 2, dim=1))).sum(1).mean()
    gradients = torch.autograd.grad(loss, list(student.parameters()))
    for p, gradient, after in zip(student.parameters(), gradients, found.parameters(), strict=True):
        torch.testing.assert_close(after, p - 0.5 * gradient, rtol=1e-4, atol=1e-6)


def test_the_teacher_is_not_changed_and_the_reference_teaches_where_given():
    place = context()
    teacher, other = trained("residual", place).train(), trained("mlp", place)
    before = state(teacher)
    student = distilled(STUDENT, teacher, place)
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert teacher.training
    assert student.training
    by_reference = distilled(STUDENT, other, replace(place, reference=teacher))
    assert all(torch.equal(p, q) for p, q in zip(student.parameters(), by_reference.parameters(), strict=True))


def test_the_same_seed_gives_the_same_bits():
    teacher = trained("mlp", context())
    a, b, other = (state(distilled(STUDENT, teacher, context(seed=seed))) for seed in (0, 0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], other[name]) for name in a)


@pytest.mark.parametrize("architecture", ["cnn-4", "mlp-8", "resnet8-2"])
def test_a_student_is_restored_from_its_tensors(architecture):
    place = context()
    teacher = trained("mlp", place)
    scheme = replace(STUDENT, architecture=architecture, epochs=0.2)
    student = distilled(scheme, teacher, place)
    images = evaluation_images(place)
    assert np.array_equal(answers(restore(scheme, teacher, state(student)), images), answers(student, images))


@pytest.mark.parametrize("scheme", [STUDENT, replace(STUDENT, align=None), replace(STUDENT, align=Align(("logits",)))])
def test_it_is_read_back_from_plain_data(scheme, monkeypatch):
    monkeypatch.setitem(SCHEMES, Distillation.kind, Distillation)
    assert scheme_from_dict(to_dict(scheme)) == scheme


def test_unknown_students_are_refused():
    teacher = trained("mlp", context())
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet8'"):
        distilled(Distillation("resnet_8"), teacher, context())
    with pytest.raises(ValueError, match="Expected `epochs` > 0, but got 0"):
        Distillation("cnn", epochs=0)
    with pytest.raises(ValueError, match="Expected `architecture` to name the student, but got ''"):
        Distillation("")
