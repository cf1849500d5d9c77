import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remnant.gates.decisions import Measured, decide, decide_margin, increase, needed
from remnant.stats.rates import newcombe, wilson


@pytest.mark.parametrize(
    ("low", "high", "limit", "outcome"),
    [
        (0.002, 0.008, 0.01, "pass"),
        (0.002, 0.01, 0.01, "pass"),  # within the limit is allowed
        (0.002, 0.0101, 0.01, "could not tell"),
        (0.01, 0.02, 0.01, "could not tell"),
        (0.0101, 0.02, 0.01, "fail"),
        (0.0, 0.0, 0.0, "pass"),
    ],
)
def test_the_whole_interval_decides(low, high, limit, outcome):
    assert decide(Measured((low + high) / 2, low, high, 100), limit) == outcome


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (-0.004, 0.004, "pass"),
        (-0.006, 0.004, "could not tell"),
        (-0.004, 0.006, "could not tell"),
        (0.006, 0.02, "fail"),
        (-0.02, -0.006, "fail"),
        (-0.02, 0.02, "could not tell"),
    ],
)
def test_a_margin_holds_either_way(low, high, outcome):
    assert decide_margin(Measured((low + high) / 2, low, high, 100), 0.005) == outcome


def interval(lost: int, n: int) -> Measured:
    low, high = wilson(lost, n)
    return Measured(lost / n, float(low), float(high), n)


def test_an_increase_of_independent_shares_has_the_interval_of_newcombe():
    """Newcombe (1998), table II, method 10: 56/70 - 48/80 has 0.0524 to 0.3339."""
    found = increase(interval(56, 70), interval(48, 80))
    assert found.estimate == pytest.approx(0.2)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)
    low, high = newcombe(56, 70, 48, 80)
    assert (found.low, found.high) == (pytest.approx(float(low)), pytest.approx(float(high)))


@given(st.integers(0, 50), st.integers(0, 50), st.integers(50, 500))
def test_an_increase_turned_round_is_a_decrease(a, b, n):
    forth, back = increase(interval(a, n), interval(b, n)), increase(interval(b, n), interval(a, n)).turned()
    assert (forth.estimate, forth.low, forth.high) == (back.estimate, back.low, back.high)
    assert forth.low <= forth.estimate <= forth.high


@given(st.floats(0.0, 0.2), st.floats(0.005, 0.2), st.integers(20, 2000))
def test_the_examples_needed_for_a_share_are_enough_and_not_too_many(p, limit, n):
    """Against the definition: the smallest n at which the Wilson interval of that share leaves the limit."""
    number = needed(Measured(p, 0, 1, n), limit, wilson=True)
    if number is None or not 10 <= number < 10**7:
        return

    def clear(n: int) -> bool:
        z, middle = 1.959963984540054, p + 1.959963984540054**2 / (2 * n)
        half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        low, high = ((middle + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
        return high < limit if p < limit else low > limit

    assert clear(math.ceil(1.001 * number) + 1)
    assert not clear(math.floor(0.999 * number) - 1)


def test_nothing_helps_where_the_value_is_the_limit_or_the_limit_is_an_end():
    assert needed(Measured(0.01, 0, 0.02, 100), 0.01, wilson=True) is None
    assert needed(Measured(0.0, 0, 0.02, 100), 0.0) is None
    assert needed(Measured(0.001, 0, 0.02, 100), 0.0, wilson=True) is None
    assert needed(Measured(0.01, 0, 0.02, 100), 0.01 + 1e-12) is None  # more than 10^9


def test_other_widths_shrink_with_the_square_root():
    """Half as far from the limit as the interval reaches: four times as many."""
    assert needed(Measured(0.02, 0.0, 0.06, 100), 0.04) == 400
    assert needed(Measured(0.06, 0.02, 0.2, 100), 0.04) == 400


def test_a_limit_that_is_just_kept_is_seldom_failed_or_passed():
    """Calibration: with the true share at the limit, each of the two clear verdicts comes in about 2.5 %."""
    lost = np.random.default_rng(0).binomial(2000, 0.02, 4000)
    low, high = wilson(lost, 2000)
    outcomes = [decide(Measured(k / 2000, lo, hi, 2000), 0.02) for k, lo, hi in zip(lost, low, high, strict=True)]
    assert 0.015 < outcomes.count("fail") / 4000 < 0.04
    assert 0.01 < outcomes.count("pass") / 4000 < 0.035
