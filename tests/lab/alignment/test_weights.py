"""Weights of terms: values printed by SoftAdapt's authors, and where learned variances settle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remnant.lab.alignment.weights import DIFFERENCES, softadapt, weighting
from remnant.schemes import Align

# The example of the README of github.com/dr-aheydari/SoftAdapt, with the weights that it prints.
LOSSES = [[1, 2, 3, 4, 5], [150, 100, 50, 10, 0.1], [1500, 1000, 500, 100, 1]]


def test_the_original_weights_are_those_of_the_published_code():
    assert softadapt(LOSSES, 0.1) == pytest.approx([9.9343e-01, 6.5666e-03, 3.8908e-22], rel=1e-4)


def test_the_loss_weighted_ones_are_those_of_the_published_code():
    assert softadapt(LOSSES, 0.1, "loss-weighted") == pytest.approx([8.7978e-01, 1.2022e-01, 7.1234e-20], rel=1e-4)


def test_normalised_slopes_keep_the_order_of_the_slopes():
    """The l1 norm gives [.3444 .3412 .3144]; their sum, by which that code divides, [.3221 .3251 .3528]."""
    weights = softadapt(LOSSES, 0.1, "normalized")
    assert weights == pytest.approx([0.3444, 0.3412, 0.3144], abs=5e-5)
    assert np.argsort(weights).tolist() == np.argsort(softadapt(LOSSES, 0.1)).tolist()


@pytest.mark.parametrize("order", DIFFERENCES)
def test_differences_are_exact_for_polynomials_up_to_their_order(order):
    """The slope of x^k at 0, where the oldest value is: 1 for k = 1 and 0 for all others."""
    points = np.arange(order + 1.0)
    for power in range(order + 1):
        assert points**power @ np.array(DIFFERENCES[order]) == pytest.approx(float(power == 1), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.floats(0.01, 100), min_size=3, max_size=3), min_size=2, max_size=4),
    st.sampled_from(["", "loss-weighted", "normalized"]),
)
def test_weights_are_a_distribution_and_equal_terms_get_equal_weights(losses, variant):
    weights = softadapt([*losses, losses[0]], 0.1, variant)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    assert weights[0] == pytest.approx(weights[-1])


def test_the_scale_of_all_terms_does_not_matter_to_normalised_slopes_only():
    scaled = 1000 * np.array(LOSSES)
    assert softadapt(scaled, 0.1, "normalized") == pytest.approx(softadapt(LOSSES, 0.1, "normalized"), abs=1e-6)
    assert softadapt(scaled, 0.1) != pytest.approx(softadapt(LOSSES, 0.1), abs=1e-3)


def test_softadapt_is_uniform_until_it_has_seen_its_windows_and_then_follows_their_means():
    align = Align(("cross-entropy", "logits"), weights="softadapt", update=2, history=3, beta=1.0)
    chosen = weighting(align)
    steps = [(3.0, 9.0), (3.0, 7.0), (2.0, 6.0), (2.0, 4.0), (2.0, 3.0), (2.0, 1.0)]
    weights = [chosen.next(list(values), 0.1) for values in steps]
    assert weights[:5] == [[0.5, 0.5]] * 5
    assert weights[5] == pytest.approx(softadapt([[3, 2, 2], [8, 5, 2]], 1.0))


def test_learned_variances_settle_where_their_gradient_is_0():
    """sum_k c exp(-s) L + s / 2 is least at exp(s) = 2 c L: the weight is 1 / (2 L)."""
    chosen = weighting(Align(("cross-entropy", "logits", "features"), weights="uncertainty"))
    values = [0.8, 3.0, 0.05]
    assert chosen.next(values, 0.1) == [1.0, 0.5, 0.5]
    weights = [chosen.next(values, 0.1) for _ in range(3000)][-1]
    assert weights == pytest.approx([1 / (2 * value) for value in values], rel=1e-3)


def test_fixed_and_uniform_weights_never_change():
    for align, expected in (
        (Align(("logits", "labels")), [0.5, 0.5]),
        (Align(("logits", "labels"), weights="fixed", fixed=(0.9, 2.0)), [0.9, 2.0]),
    ):
        chosen = weighting(align)
        assert [chosen.next([1.0, 9.0], 0.1), chosen.next([5.0, 0.0], 0.1)] == [expected] * 2
