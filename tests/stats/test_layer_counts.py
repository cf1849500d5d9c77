import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnxruntime.quantization import qdq_loss_debug

from remnant.stats.layer_counts import decibels, layer_counts

ANSWERS = st.integers(0, 2)


def test_counts_by_hand():
    found = layer_counts(
        label=[0, 0, 1, 1, 2],
        reference=[0, 0, 1, 0, 2],  # wrong on the fourth
        compressed=[0, 1, 0, 2, 2],  # loses the second and third, changes the fourth
        alone=[[0, 1, 1, 0, 2], [1, 0, 1, 1, 2]],
        restored=[[0, 0, 0, 0, 1], [-1, -1, -1, -1, -1]],
    )
    assert (found.cie, found.cie_u) == (3, 2)
    assert found.is_known.tolist() == [True, False]
    assert found.cie_alone.tolist() == [1, 0]
    assert found.cie_u_alone.tolist() == [1, 0]
    assert found.cie_restored.tolist() == [2, 0]
    assert found.cie_u_restored.tolist() == [2, 0]
    assert found.regained.tolist() == [1, 0]
    assert found.broken.tolist() == [1, 0]


@given(arrays(int, (4, 12), elements=ANSWERS), arrays(int, (3, 12), elements=ANSWERS))
def test_counts_agree_with_a_loop(four, restored):
    label, reference, compressed, alone = four
    found = layer_counts(label, reference, compressed, np.stack([alone] * 3), restored)
    for layer in range(3):
        lost = still = regained = broken = changed = 0
        for y, r, c, a, b in zip(label, reference, compressed, alone, restored[layer], strict=True):
            lost += r == y != a
            changed += b != r
            still += r == y != b
            regained += r == y != c and b == y
            broken += r == y == c and b != y
        assert found.cie_u_alone[layer] == lost
        assert found.cie_restored[layer] == changed
        assert found.cie_u_restored[layer] == still
        assert (found.regained[layer], found.broken[layer]) == (regained, broken)
    assert (found.cie_u - found.cie_u_restored == found.regained - found.broken).all()


@given(arrays(int, (2, 9), elements=ANSWERS))
def test_nothing_is_lost_against_itself(two):
    label, answers = two
    found = layer_counts(label, answers, answers, answers[None], answers[None])
    counts = (found.cie, found.cie_u, found.cie_alone, found.cie_u_alone, found.cie_restored, found.regained)
    assert not np.concatenate([np.ravel(count) for count in counts]).any()


def test_decibels_are_those_of_onnx_runtime():
    """onnxruntime.quantization.qdq_loss_debug, the number its quantization debugging prints for each tensor."""
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(size=(20, 7)), 0.03 * rng.normal(size=(20, 7))
    expected = qdq_loss_debug.compute_signal_to_quantization_noice_ratio(signal, signal + noise)
    assert decibels((signal**2).sum(), (noise**2).sum()) == pytest.approx(expected, rel=1e-12)


def test_ends_of_the_scale():
    found = decibels([100.0, 1.0, 1.0, 0.0, 0.0, np.nan], [1.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    np.testing.assert_array_equal(found, [20, 0, np.inf, np.inf, -np.inf, np.nan])
