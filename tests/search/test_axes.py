import numpy as np
import pytest

from remnant.schemes import Compose, Float16, OneShotPruning
from remnant.schemes.low_rank import LowRank
from remnant.schemes.quantization import WeightOnly
from remnant.search.axes import axis, with_field


def test_more_sparsity_is_stronger_and_its_ends_are_left_out():
    found = axis(OneShotPruning(0.5, epochs=2), "sparsity")
    assert found.values == tuple(round(0.01 * k, 2) for k in range(1, 100))
    assert found.scheme(89) == OneShotPruning(0.9, epochs=2)
    assert found.positions[0] == 0
    assert found.positions[-1] == 1
    assert (np.diff(found.positions) > 0).all()


def test_fewer_bits_and_smaller_shares_are_stronger():
    bits = axis(WeightOnly(), "bits")
    assert bits.values == (8, 7, 6, 5, 4, 3, 2)
    assert all(isinstance(value, int) for value in bits.values)
    assert bits.positions[-1] == 1
    share = axis(LowRank(share=0.5), "share", resolution=0.1)
    assert share.values == pytest.approx((0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1))


def test_bounds_are_included_and_say_what_is_strong():
    assert axis(OneShotPruning(0.5), "sparsity", bounds=(0.9, 0.95)).values == (0.9, 0.91, 0.92, 0.93, 0.94, 0.95)
    assert axis(OneShotPruning(0.5), "epochs", bounds=(3, 1), resolution=1).values == (3, 2, 1)


def test_a_path_leads_into_compositions():
    both = Compose((OneShotPruning(0.5), Float16()))
    assert axis(both, "parts.0.sparsity").scheme(0) == Compose((OneShotPruning(0.01), Float16()))
    assert with_field(both, "parts.0.epochs", 3.0) == Compose((OneShotPruning(0.5, epochs=3.0), Float16()))


@pytest.mark.parametrize(
    ("template", "field", "options", "message"),
    [
        (OneShotPruning(0.5), "sparsty", {}, "got 'sparsty'. Did you mean 'sparsity'"),
        (Compose((OneShotPruning(0.5), Float16())), "sparsity", {}, "Did you mean 'parts.0.sparsity'"),
        (OneShotPruning(0.5), "scope", {}, "Expected `field of 'one-shot-pruning'`"),
        (OneShotPruning(0.5), "epochs", {}, "Expected `bounds`"),
        (OneShotPruning(0.5), "sparsity", {"bounds": (0.5, 0.5)}, "two different finite `bounds`"),
        (OneShotPruning(0.5), "sparsity", {"bounds": (0.5, float("nan"))}, "two different finite `bounds`"),
        (OneShotPruning(0.5), "sparsity", {"resolution": 0}, "Expected `resolution` in"),
        (OneShotPruning(0.5), "sparsity", {"resolution": 2}, "Expected `resolution` in"),
        (OneShotPruning(0.5), "sparsity", {"bounds": (0.5, 1.5)}, "Expected `sparsity`"),
    ],
)
def test_mistakes_are_clear_errors(template, field, options, message):
    with pytest.raises(ValueError, match=message):
        axis(template, field, **options)
