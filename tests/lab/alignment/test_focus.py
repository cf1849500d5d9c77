"""Which examples count more."""

import pytest
import torch

from remnant.lab.alignment.focus import WorstClass, focus, harmful
from remnant.schemes import Align

LABELS = torch.tensor([0, 1, 2, 0])
REFERENCE = torch.tensor([[5.0, 0, 0], [0, 5.0, 0], [4.0, 0, 3.9], [1.0, 0.9, 0]])  # wrong on the third
COMPRESSED = torch.tensor([[5.0, 0, 0], [0, 0, 5.0], [0, 0, 9.0], [0, 3.0, 0]])


def weights(kind: str, strength: float = 2.0) -> torch.Tensor:
    chosen = focus(Align(focus=kind, strength=strength), 3)  # pyright: ignore[reportArgumentType]
    assert chosen is not None
    return chosen.weights(COMPRESSED, REFERENCE, LABELS)


def test_a_harmful_flip_is_where_the_reference_alone_is_right():
    assert harmful(COMPRESSED, REFERENCE, LABELS).tolist() == [False, True, False, True]


def test_forgotten_examples_count_1_plus_strength():
    assert weights("forgotten").tolist() == pytest.approx([0.5, 1.5, 0.5, 1.5])


def test_examples_near_the_boundary_of_the_reference_count_more():
    found = weights("near-boundary")
    assert found.mean().item() == pytest.approx(1)
    assert found[3] > found[2] > found[0]  # margins 0.05, then 0.05 of three likely classes, then 0.99
    assert found[0] == pytest.approx(found[1])


@pytest.mark.parametrize("kind", ["forgotten", "near-boundary", "worst-class"])
def test_strength_0_lets_all_count_the_same(kind):
    assert weights(kind, 0.0).tolist() == pytest.approx([1.0] * 4)


def test_the_class_that_loses_most_ends_with_the_largest_weight():
    chosen = WorstClass(1.0, 3)
    found = [chosen.weights(COMPRESSED, REFERENCE, LABELS) for _ in range(500)][-1]
    # Rates: class 0 loses one of two, class 1 its only one; the reference has class 2 wrong, so nothing can be lost.
    assert chosen.rates.tolist() == pytest.approx([0.5, 1.0, 0.0], abs=0.01)
    assert found[1] > found[0] > found[2]
    assert found.mean().item() == pytest.approx(1)


def test_no_focus_is_none():
    assert focus(Align(), 3) is None
