"""Schemes as people write them."""

import pytest

from remnant.schemes import Compose, LearningCompression, OneShotPruning, Restored, StaticInt8, parse_align
from remnant.schemes.parsing import parse_scheme
from tests.lab.test_scheme_contracts import EXAMPLES


@pytest.mark.parametrize("scheme", EXAMPLES, ids=lambda scheme: scheme.label)
def test_a_label_is_read_back_as_its_scheme(scheme):
    assert parse_scheme(scheme.label) == scheme


def test_spaces_hyphens_and_true_and_false_are_understood():
    expected = Compose((OneShotPruning(0.9, epochs=2, learning_rate=0.05), StaticInt8(per_channel=False)))
    assert (
        parse_scheme(
            "one-shot-pruning( sparsity = 0.9 ,epochs=2, learning-rate=5e-2 ) + static-int8(per_channel=false)"
        )
        == expected
    )


def test_what_is_left_out_can_be_assumed():
    assert parse_scheme("one-shot-pruning", assumed={"sparsity": 0.5, "flops": 0.1}) == OneShotPruning(0.5)
    assert parse_scheme("one-shot-pruning(sparsity=0.7)", assumed={"sparsity": 0.5}) == OneShotPruning(0.7)


def test_lists_are_joined_with_slashes_and_schemes_may_hold_schemes():
    inner = Compose((OneShotPruning(0.9, epochs=0), StaticInt8()))
    scheme = LearningCompression(inner, epochs=3)
    assert (
        scheme.label
        == "learning-compression(scheme=(one-shot-pruning(sparsity=0.9, epochs=0) + static-int8), epochs=3)"
    )
    assert parse_scheme(scheme.label) == scheme
    assert parse_scheme("restored(layers=0.conv/2)") == Restored(("0.conv", "2"))


def test_an_alignment_may_hold_plus_signs():
    found = parse_scheme("one-shot-pruning(sparsity=0.9, align=distillation+logits softadapt) + static-int8")
    assert found == Compose((OneShotPruning(0.9, align=parse_align("distillation+logits softadapt")), StaticInt8()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expected a scheme as NAME"),
        ("one shot pruning", "Expected a scheme as NAME"),
        ("one-shot-prunin(sparsity=0.5)", "'one-shot-pruning'"),
        ("one-shot-pruning(0.5)", "Expected `field=value`"),
        ("one-shot-pruning(sparsity=0.5", "leaves one open"),
        ("one-shot-pruning)sparsity=0.5(", "closes one too many"),
        ("one-shot-pruning(sparsity=1.5)", r"`sparsity` in \[0, 1\)"),
        ("one-shot-pruning(sparsity=much)", "of type float, but got 'much'"),
        ("one-shot-pruning", r"expected the keys \['sparsity'\]"),
        ("one-shot-pruning(sparsity=0.5, epoch=3)", "'epochs'"),
    ],
)
def test_mistakes_say_what_was_expected(text, message):
    with pytest.raises(ValueError, match=message):
        parse_scheme(text)
