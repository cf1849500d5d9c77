"""Alignments as values and as text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remnant.schemes import Align, OneShotPruning, parse_align, scheme_from_dict
from remnant.schemes.alignment import TERMS
from remnant.trial import Recipe, Trial, to_dict, trial_from_dict


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(TERMS), min_size=1, max_size=4, unique=True),
    st.sampled_from(["uniform", "uncertainty", "softadapt", "softadapt-normalized", "fixed"]),
    st.sampled_from(["none", "forgotten", "worst-class"]),
    st.floats(0.25, 8),
    st.integers(1, 50),
)
def test_the_text_of_an_alignment_names_it_alone(terms, weights, focus, temperature, update):
    fixed = tuple(k + 0.5 for k in range(len(terms))) if weights == "fixed" else ()
    align = Align(tuple(terms), weights, fixed, round(temperature, 2), update=update, focus=focus)
    assert parse_align(str(align)) == align


def test_an_alignment_survives_storage_and_can_be_written_as_a_word():
    align = Align(("distillation", "logits"), weights="softadapt", mix=1.0)
    trial = Trial(Recipe("digits", "mlp"), OneShotPruning(0.9, align=align), 3)
    assert trial_from_dict(to_dict(trial)) == trial
    written = scheme_from_dict(
        {"kind": "one-shot-pruning", "sparsity": 0.9, "align": "distillation+logits softadapt mix 1"}
    )
    assert written == trial.scheme
    table = {"kind": "one-shot-pruning", "sparsity": 0.9, "align": {"terms": ["labels"]}}
    assert scheme_from_dict(table) == OneShotPruning(0.9, align=Align(("labels",)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Align(()), "`terms` to hold at least one term"),
        (lambda: Align(("logits", "logits")), "`terms` without repetitions"),
        (lambda: Align(("logit",)), "'logits'"),
        (lambda: Align(weights="soft"), "softadapt"),  # pyright: ignore[reportArgumentType]
        (lambda: Align(("logits",), weights="fixed"), "`fixed` with 1 weights"),
        (lambda: Align(("logits",), weights="fixed", fixed=(-1.0,)), "`fixed` >= 0"),
        (lambda: Align(("logits",), weights="fixed", fixed=(0.0,)), "a weight above 0"),
        (lambda: Align(("logits",), fixed=(1.0,)), "`fixed` empty unless"),
        (lambda: Align(temperature=0), "`temperature` > 0"),
        (lambda: Align(update=0), "`update` >= 1"),
        (lambda: Align(history=7), r"`history` in \[2, 6\]"),
        (lambda: Align(strength=-1), "`strength` >= 0"),
        (lambda: Align(mix=-1), "`mix` >= 0"),
        (lambda: Align(("attribution",), mix=0.5), "`mix` = 0 with the term 'attribution'"),
        (lambda: parse_align("logits softadpt"), "softadapt"),
        (lambda: parse_align("logits temperature hot"), "a number in an alignment, but got 'hot'"),
        (lambda: parse_align(""), "term"),
    ],
)
def test_mistakes_say_what_was_expected(make, message):
    with pytest.raises(ValueError, match=message):
        make()
