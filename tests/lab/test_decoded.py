import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from remnant.lab import decoded
from remnant.lab.data import load
from remnant.lab.foreign.model import state_hash
from remnant.lab.occlusion import occlusion


def convolution() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))


def material(model, augmentation=(), **options):
    subject = decoded.Subject("net", "net", model, "dataset", augmentation)
    return decoded.material([subject], load("digits"), **options)


def module(trained: decoded.Trained) -> Any:
    return trained.question.model.module


def test_statistics_are_means_and_variances_over_all_images():
    model = convolution()
    found = material(model, train_images=400)
    again = decoded.reestimated(found.models[0], found.train_images)
    norm = module(again)[1]
    dataset = load("digits")
    inputs = (torch.from_numpy(found.train_images).permute(0, 3, 1, 2).float() / 255 - dataset.mean) / dataset.std
    outputs = model[0](inputs).transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, outputs.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, outputs.var(1), rtol=1e-4, atol=1e-5)
    assert not norm.training
    assert norm.momentum == model[1].momentum


def test_estimating_again_on_the_training_images_repairs_broken_statistics():
    model = convolution()
    found = material(model, limit=100, train_images=400)
    sound = decoded.reestimated(found.models[0], found.train_images)
    broken = copy.deepcopy(module(sound))
    broken[1].running_mean += 3
    before = state_hash(broken)
    other = material(broken, limit=100, train_images=400)
    repaired = decoded.reestimated(other.models[0], other.train_images)
    assert state_hash(broken) == before
    expected = decoded.logits(sound, found.images)
    np.testing.assert_allclose(decoded.logits(repaired, found.images), expected, rtol=1e-4, atol=1e-4)
    assert np.abs(decoded.logits(other.models[0], found.images) - expected).max() > 0.1


def test_images_are_changed_as_in_training():
    """Crops bring in black borders, as they did in training: the mean of what the first layer sees falls."""
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 10))
    means = []
    for augmentation in ((), ("flip",), ("crop",)):
        found = material(model, augmentation, train_images=400)
        means.append(float(module(decoded.reestimated(found.models[0], found.train_images))[0].running_mean))
    assert means[1] == pytest.approx(means[0], abs=1e-5)
    assert means[2] < means[0] - 0.01


def test_several_batches_are_averaged(monkeypatch):
    monkeypatch.setattr(decoded, "BATCH", 100)
    found = material(convolution(), train_images=400)
    whole = module(decoded.reestimated(found.models[0], found.train_images))
    mean, variance = whole[1].running_mean, whole[1].running_var
    monkeypatch.setattr(decoded, "BATCH", 500)
    once = module(decoded.reestimated(found.models[0], found.train_images))
    torch.testing.assert_close(mean, once[1].running_mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(variance, once[1].running_var, rtol=0.05, atol=0.01)


def test_models_without_statistics_are_refused():
    found = material(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), train_images=10)
    assert not found.models[0].has_batch_norm
    with pytest.raises(ValueError, match="Expected a model with batch norm"):
        decoded.reestimated(found.models[0], found.train_images)
    normed = material(convolution(), train_images=1)
    with pytest.raises(ValueError, match="at least 2 images"):
        decoded.reestimated(normed.models[0], normed.train_images)


def test_answers_that_are_not_finite_are_refused():
    layer = nn.Linear(64, 10)
    found = material(nn.Sequential(nn.Flatten(), layer), limit=20)
    nn.init.constant_(layer.bias, torch.nan)
    with pytest.raises(ValueError, match="NaN or infinity on 20 examples"):
        decoded.logits(found.models[0], found.images)


def test_too_many_images_are_refused(monkeypatch):
    monkeypatch.setattr(decoded, "IN_MEMORY", 64 * 50)
    assert len(material(convolution(), limit=50).images) == 50
    with pytest.raises(ValueError, match="Take fewer with `limit`"):
        material(convolution(), limit=51)


class Corner(nn.Module):
    """Class 1 if the upper left 2x2 pixels are bright; nothing else matters."""

    def forward(self, images):
        seen = images[:, 0, :2, :2].mean((1, 2))
        return torch.stack([-seen, seen, *[torch.full_like(seen, -9)] * 8], dim=1)


def test_occlusion_points_at_what_the_answer_hangs_on():
    found = material(Corner(), limit=4)
    shown = np.full((4, 8, 8, 1), 128, np.uint8)
    shown[:, :2, :2] = 255
    maps = occlusion(found.models[0], shown, np.ones(4, np.int64), patch=2)
    assert maps.shape == (4, 8, 8)
    assert (maps[:, 0, 0] > 0.05).all()
    assert (maps[:, 4:, 4:] == 0).all()
    np.testing.assert_array_equal(maps[0], maps[1])
