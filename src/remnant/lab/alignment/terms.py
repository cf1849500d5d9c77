"""Terms of an alignment loss: one value per example, of shape (example,), 0 where both models agree.

Except for "attribution", the definitions are reconstructed: Joseph et al. name the terms in their abstract only.

References
----------
joseph2020reliable; hinton2015distilling, section 2; park2020attribution, equations 3 to 6
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from remnant.schemes import Align


@dataclass(frozen=True)
class Answers:
    """What one model gives for a batch."""

    logits: Tensor
    """float32 (example, class)."""
    features: Tensor | None = None
    """Inputs of the last linear layer, (example, feature)."""
    maps: Tensor | None = None
    """Attribution maps, (example, height, width), each of length 1."""


@dataclass(frozen=True)
class Pair:
    """The answers of a compressed model and of its reference on the same inputs."""

    own: Answers
    reference: Answers
    targets: Tensor
    """Probabilities of the classes by the labels of the data, (example, class)."""
    align: Align


def cross_entropy(pair: Pair) -> Tensor:
    """-sum_k y_k log softmax(z)_k with the labels of the data."""
    return -(pair.targets * functional.log_softmax(pair.own.logits, 1)).sum(1)


def distillation(pair: Pair) -> Tensor:
    """T^2 KL(softmax(z_r / T) || softmax(z / T)), nats: 0 where the logits differ by a constant."""
    temperature = pair.align.temperature
    own = functional.log_softmax(pair.own.logits / temperature, 1)
    reference = functional.log_softmax(pair.reference.logits / temperature, 1)
    return temperature**2 * functional.kl_div(own, reference, reduction="none", log_target=True).sum(1)


def logits(pair: Pair) -> Tensor:
    """Mean over classes of (z - z_r)^2: logit pairing."""
    return (pair.own.logits - pair.reference.logits).square().mean(1)


def labels(pair: Pair) -> Tensor:
    """-log softmax(z)[argmax z_r]: cross-entropy to what the reference predicts, right or wrong."""
    return functional.cross_entropy(pair.own.logits, pair.reference.logits.argmax(1), reduction="none")


def attribution(pair: Pair) -> Tensor:
    """100 (the paper's weight) times the mean over positions of the squared difference of two maps of length 1."""
    own, reference = _maps(pair.own), _maps(pair.reference)
    if own.shape != reference.shape:
        raise ValueError(
            f"Expected maps of one size for the term 'attribution', but the last convolutions give "
            f"{tuple(own.shape[1:])} and {tuple(reference.shape[1:])}. Leave the term out."
        )
    return 100 * (own - reference).square().mean((1, 2))


def features(pair: Pair) -> Tensor:
    """|f - f_r|^2 / |f_r|^2 of the inputs of the last linear layer."""
    own, reference = pair.own.features, pair.reference.features
    assert own is not None
    assert reference is not None
    if own.shape != reference.shape:
        raise ValueError(
            f"Expected features of one width for the term 'features', but the compressed model has {own.shape[1]} and "
            f"its reference {reference.shape[1]}. Leave the term out."
        )
    return (own - reference).square().sum(1) / reference.square().sum(1).clamp_min(1e-12)


FUNCTIONS: dict[str, Callable[[Pair], Tensor]] = {
    "cross-entropy": cross_entropy,
    "distillation": distillation,
    "logits": logits,
    "labels": labels,
    "attribution": attribution,
    "features": features,
}
"""Name of a term to its formula."""


def unit_maps(maps: Tensor) -> Tensor:
    """Maps (example, height, width) divided by their Euclidean length; a map of zeros stays zero."""
    return maps / torch.linalg.vector_norm(maps, dim=(1, 2), keepdim=True).clamp_min(1e-12)


def _maps(answers: Answers) -> Tensor:
    assert answers.maps is not None
    return answers.maps
