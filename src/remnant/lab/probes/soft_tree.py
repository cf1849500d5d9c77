"""A soft decision tree distilled from the model on training images, and one trained on their labels."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from remnant.lab.dataset import Dataset, Images, take
from remnant.lab.probe import BATCH
from remnant.lab.probing import Subject
from remnant.lab.soft_tree import Settings, Tree, fit, one_hot
from remnant.lab.train import normalize
from remnant.probes.soft_tree import SoftTree


@dataclass(frozen=True)
class Prepared:
    """What the trees of all models share."""

    rows: np.ndarray
    """Training examples that teach the trees."""
    train: Tensor
    """Their inputs, float32 (example, input)."""
    test: Tensor
    """Inputs of the probed examples."""
    shape: tuple[int, int, int]
    """(channel, height, width) of an input."""
    labels: Tree
    """The tree trained on labels."""


def prepare(probe: SoftTree, dataset: Dataset, rows: np.ndarray) -> Prepared:
    """The inputs of the trees, and the tree trained on labels, which is the same for all models."""
    number = len(dataset.train)
    chosen = np.sort(probe.rng("training").permutation(number)[: probe.training])
    train, shape = _inputs(probe, dataset, dataset.train.images, chosen)
    test, _ = _inputs(probe, dataset, dataset.test.images, rows)
    labels = one_hot(dataset.train.labels[torch.from_numpy(chosen)], dataset.num_classes)
    return Prepared(chosen, train, test, shape, _fit(probe, train, labels))


def measure(probe: SoftTree, subject: Subject, prepared: Prepared) -> dict[str, np.ndarray]:
    """Answers, leaves and filters of the tree distilled from the model; answers of the one trained on labels."""
    tree = _fit(probe, prepared.train, _soft_targets(probe, subject, prepared.rows))
    prediction, leaf, probability = tree.answers(prepared.test)
    label_prediction, label_leaf, _ = prepared.labels.answers(prepared.test)
    shape = (-1, *prepared.shape)
    return {
        "prediction": prediction.astype(np.int16),
        "leaf_reached": leaf.astype(np.int16),
        "path_probability": probability.astype(np.float16),
        "label_prediction": label_prediction.astype(np.int16),
        "label_leaf_reached": label_leaf.astype(np.int16),
        "leaf_distribution": tree.distributions().numpy().astype(np.float16),
        "leaf_picture": _leaf_pictures(tree, prepared, subject.dataset).reshape(shape),
        "filter": tree.filters.numpy().astype(np.float16).reshape(shape),
    }


def _fit(probe: SoftTree, inputs: Tensor, targets: Tensor) -> Tree:
    settings = Settings(
        depth=probe.depth,
        inverse_temperature=probe.inverse_temperature,
        penalty=probe.penalty,
        weight_decay=probe.weight_decay,
        steps=probe.steps,
        batch_size=probe.batch_size,
        learning_rate=probe.learning_rate,
    )
    return fit(inputs, targets, settings, probe.rng("tree"))


@torch.inference_mode()
def _soft_targets(probe: SoftTree, subject: Subject, rows: np.ndarray) -> Tensor:
    """Softmax of the model's logits on training images, at the probe's temperature."""
    device = next((p.device for p in subject.model.parameters()), torch.device("cpu"))
    dataset, parts = subject.dataset, []
    for start in range(0, len(rows), BATCH):
        images = normalize(dataset, take(dataset.train.images, rows[start : start + BATCH]).to(device))
        parts.append((subject.model(images).float() / probe.temperature).softmax(1).cpu())
    return torch.cat(parts).clone()


def _inputs(probe: SoftTree, dataset: Dataset, images: Images, rows: np.ndarray) -> tuple[Tensor, tuple[int, int, int]]:
    """Normalized images, averaged down to the probe's size, as vectors; and the shape of one."""
    parts = []
    for start in range(0, len(rows), BATCH):
        values = normalize(dataset, take(images, rows[start : start + BATCH])).float()
        if values.ndim == 4:
            height, width = (min(side, probe.size) for side in values.shape[2:])
            if (height, width) != tuple(values.shape[2:]):
                values = functional.interpolate(values, (height, width), mode="area")
        else:
            values = values.reshape(len(values), 1, 1, -1)
        parts.append(values)
    found = torch.cat(parts)
    channels, height, width = found.shape[1:]
    return found.flatten(1).contiguous(), (channels, height, width)


@torch.no_grad()
def _leaf_pictures(tree: Tree, prepared: Prepared, dataset: Dataset) -> np.ndarray:
    """Mean training image of each leaf by path probability, uint8 (leaf, input); 0 to 255 as the data set's images."""
    total = torch.zeros(len(tree.leaves), prepared.train.shape[1])
    weight = torch.zeros(len(tree.leaves))
    for batch in prepared.train.split(BATCH):
        reached = tree.path_probabilities(batch)
        total += reached.T @ batch
        weight += reached.sum(0)
    mean = (total / weight.clamp_min(1e-12)[:, None]).view(-1, *prepared.shape)
    if mean.shape[1] == len(dataset.mean):
        mean = mean * dataset.std.view(-1, 1, 1) + dataset.mean.view(-1, 1, 1)
    images = dataset.train.images
    if isinstance(images, Tensor) and images.dtype != torch.uint8:
        # Inputs that are not pictures have no range of their own.
        mean = (mean - mean.amin()) / (mean.amax() - mean.amin()).clamp_min(1e-12)
    return (255 * mean).round().clamp(0, 255).to(torch.uint8).flatten(1).numpy()
