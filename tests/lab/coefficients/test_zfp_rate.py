"""The oracle is zfpy, the Python package of ZFP itself."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remnant.lab.coefficients.zfp_blocks import decode, encode
from remnant.lab.coefficients.zfp_rate import bits_per_block, keep_rate, within
from tests.lab.coefficients.images import float_arrays, integer_arrays
from tests.lab.coefficients.test_zfp_blocks import bits, zfp

RATES = [0.5625, 0.625, 0.7, 0.75, 1, 1.25, 1.5, 2, 2.3, 3, 4, 5.5, 7, 8, 9, 10.1, 11, 12, 14, 16, 20, 24, 30, 32, 64]


@pytest.mark.parametrize("name", float_arrays())
def test_floats_decode_as_zfp_decodes_them_at_every_rate(name):
    array = float_arrays()[name]
    blocks = encode(torch.from_numpy(array))
    for rate in [*RATES, *np.random.default_rng(0).uniform(0.57, 33, 15)]:
        found = decode(keep_rate(blocks, rate)).numpy()
        np.testing.assert_array_equal(bits(found), bits(zfp(array, rate=rate)), f"rate {rate}")


@pytest.mark.parametrize("name", integer_arrays())
def test_integers_decode_as_zfp_decodes_them_at_every_rate(name):
    array = integer_arrays()[name]
    blocks = encode(torch.from_numpy(array))
    for rate in [1 / 16, 0.25, 0.5, *RATES, *np.random.default_rng(0).uniform(0.07, 33, 15)]:
        np.testing.assert_array_equal(decode(keep_rate(blocks, rate)).numpy(), zfp(array, rate=rate), f"rate {rate}")


def test_every_budget_of_one_noisy_block_is_as_zfps():
    """All places where a stream can end: within a bit plane, a run of zeros, an answer."""
    rng = np.random.default_rng(3)
    array = (rng.normal(size=(4, 64)) * 10.0 ** rng.uniform(-3, 3, (4, 64))).astype(np.float32)
    blocks = encode(torch.from_numpy(array))
    for budget in range(9, 260):
        found = decode(keep_rate(blocks, budget / 16)).numpy()
        np.testing.assert_array_equal(bits(found), bits(zfp(array, rate=budget / 16)), f"{budget} bits")


def slow_within(digits: list[int], budget: int) -> list[int]:
    """One block, bit by bit, as the decoder of a stream that ends after `budget` bits sees it."""
    found = [0] * 16
    reached = 0
    for plane in range(31, -1, -1):
        ones = [digit >> plane & 1 for digit in digits]
        for i in range(reached):
            if budget == 0:
                return found
            budget -= 1
            found[i] |= ones[i] << plane
        while reached < 16:
            if budget == 0:
                return found
            budget -= 1
            if not any(ones[reached:]):
                break
            while reached < 15 and budget > 0:
                budget -= 1
                if ones[reached]:
                    break
                reached += 1
            found[reached] |= 1 << plane
            reached += 1
    return found


digit = st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 32).map(lambda n: (1 << n) - 1), st.just(0))


@settings(max_examples=200, deadline=None)
@given(st.lists(digit, min_size=16, max_size=16), st.integers(0, 600))
def test_any_digits_within_any_budget_are_those_that_a_decoder_reads(digits, budget):
    tensor = torch.tensor(np.array(digits, np.uint32).view(np.int32)).view(16, 1)
    found = within(tensor, budget)[:, 0].numpy().view(np.uint32)
    assert found.tolist() == slow_within(digits, budget)


@pytest.mark.parametrize("rate", [0.0, 0.5, -1.0, 65.0, float("nan")])
def test_rates_that_zfp_cannot_code_are_refused(rate):
    with pytest.raises(ValueError, match=r"Expected `rate` in \[0.5625, 64\] bits per value .*torch.float32"):
        keep_rate(encode(torch.ones(4, 4)), rate)


def test_bits_are_rounded_as_zfp_rounds_them():
    assert [bits_per_block(rate, torch.float32) for rate in (0.5625, 0.59, 0.6, 1.0, 2.53)] == [9, 9, 10, 16, 40]
    assert bits_per_block(1 / 16, torch.int32) == 1
    with pytest.raises(ValueError, match=r"`rate` in \[0.0625, 64\]"):
        bits_per_block(0.05, torch.int32)
