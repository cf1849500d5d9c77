"""Terms of alignment losses against torch's own losses, slow sums and their meaning of 0."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from remnant.lab.alignment.terms import FUNCTIONS, Answers, Pair, unit_maps
from remnant.schemes import Align

CLASSES = 5


def pair(seed: int = 0, *, number: int = 7, align: Align | None = None) -> Pair:
    draw = torch.Generator().manual_seed(seed)

    def answers() -> Answers:
        maps = unit_maps(torch.rand(number, 4, 4, generator=draw))
        return Answers(3 * torch.randn(number, CLASSES, generator=draw), torch.randn(number, 6, generator=draw), maps)

    labels = torch.randint(CLASSES, (number,), generator=draw)
    targets = functional.one_hot(labels, CLASSES).float()
    return Pair(answers(), answers(), targets, align or Align())


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("cross-entropy", "labels")])
def test_terms_that_compare_are_0_where_both_models_answer_the_same_and_positive_elsewhere(name):
    made = pair()
    same = replace(made, reference=made.own)
    assert FUNCTIONS[name](same) == pytest.approx(torch.zeros(7), abs=1e-6)
    assert (FUNCTIONS[name](made) > 0).all()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_term_has_one_value_for_each_example_whatever_else_is_in_the_batch(name):
    made = pair()
    values = FUNCTIONS[name](made)
    assert values.shape == (7,)
    for i in range(7):

        def part(answers: Answers, row: int = i) -> Answers:
            assert answers.features is not None
            assert answers.maps is not None
            rows = slice(row, row + 1)
            return Answers(answers.logits[rows], answers.features[rows], answers.maps[rows])

        alone = Pair(part(made.own), part(made.reference), made.targets[i : i + 1], made.align)
        assert FUNCTIONS[name](alone).item() == pytest.approx(values[i].item(), rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1.0, 2.0, 4.0]))
def test_distillation_is_the_divergence_of_softened_probabilities_times_the_squared_temperature(seed, temperature):
    made = pair(seed, align=Align(temperature=temperature))
    p = (made.reference.logits.double() / temperature).softmax(1)
    q = (made.own.logits.double() / temperature).softmax(1)
    slow = [
        temperature**2 * float(sum(a * (a / b).log() for a, b in zip(x, y, strict=True)))
        for x, y in zip(p, q, strict=True)
    ]
    assert FUNCTIONS["distillation"](made).tolist() == pytest.approx(slow, rel=1e-3, abs=1e-5)


def test_distillation_ignores_a_constant_added_to_all_logits_and_logit_pairing_does_not():
    made = pair()
    moved = replace(made, own=replace(made.reference, logits=made.reference.logits + 3))
    assert FUNCTIONS["distillation"](moved) == pytest.approx(torch.zeros(7), abs=1e-4)
    assert FUNCTIONS["logits"](moved) == pytest.approx(torch.full((7,), 9.0), rel=1e-5)


def test_cross_entropies_are_those_of_torch():
    made = pair()
    classes = made.targets.argmax(1)
    expected = functional.cross_entropy(made.own.logits, classes, reduction="none")
    assert FUNCTIONS["cross-entropy"](made) == pytest.approx(expected, rel=1e-5)
    smooth = replace(made, targets=0.9 * made.targets + 0.1 / CLASSES)
    expected = functional.cross_entropy(made.own.logits, classes, reduction="none", label_smoothing=0.1)
    assert FUNCTIONS["cross-entropy"](smooth) == pytest.approx(expected, rel=1e-5)
    predicted = made.reference.logits.argmax(1)
    expected = functional.nll_loss(made.own.logits.log_softmax(1), predicted, reduction="none")
    assert FUNCTIONS["labels"](made) == pytest.approx(expected, rel=1e-5)


def test_maps_of_no_overlap_differ_by_2_over_the_number_of_positions():
    made = pair()
    own, other = torch.zeros(7, 4, 4), torch.zeros(7, 4, 4)
    own[:, 0, 0], other[:, 3, 3] = 5, 7
    apart = replace(
        made, own=replace(made.own, maps=unit_maps(own)), reference=replace(made.reference, maps=unit_maps(other))
    )
    assert FUNCTIONS["attribution"](apart) == pytest.approx(torch.full((7,), 100 * 2 / 16), rel=1e-5)
    assert unit_maps(torch.zeros(1, 2, 2)).abs().sum() == 0  # a map of zeros stays zero


def test_features_and_maps_of_another_size_are_refused():
    made = pair()
    narrow = replace(made, own=replace(made.own, features=torch.zeros(7, 3), maps=torch.zeros(7, 2, 2)))
    with pytest.raises(ValueError, match="features of one width .* has 3 and its reference 6"):
        FUNCTIONS["features"](narrow)
    with pytest.raises(ValueError, match=r"maps of one size .* give \(2, 2\) and \(4, 4\)"):
        FUNCTIONS["attribution"](narrow)
