import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.weightstats import ttost_paired

from remnant.stats.equivalence import (
    examples_needed,
    noninferiority_p,
    smallest_margins,
    tango_interval,
    tango_z,
    tost_p,
    wald_interval,
    wald_tost_p,
)

counts = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 300)).filter(lambda c: sum(c) > 1)


def values(lost, gained, n):
    return np.repeat([-1.0, 1.0, 0.0], [lost, gained, n - lost - gained])


def most_likely_z(lost, gained, n, change):
    """The score statistic with the restricted maximum found by search."""

    def surprise(q):
        shares = np.array([q, q + change, 1 - 2 * q - change])
        observed = np.array([lost, gained, n - lost - gained])
        return -np.sum(observed[observed > 0] * np.log(np.maximum(shares[observed > 0], 1e-300)))

    low, high = max(0.0, -change), (1 - change) / 2
    q = optimize.minimize_scalar(surprise, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x  # pyright: ignore
    return (gained - lost - n * change) / np.sqrt(n * (2 * q + change * (1 - change)))


def test_interval_equals_published_values():
    """Fagerland, Lydersen & Laake (2014), airway hyper-responsiveness of 21 children, 1 against 7 discordant.

    Tango's interval: -0.517 to -0.026.
    """
    low, high = tango_interval(7, 1, 21)
    assert low == pytest.approx(-0.517, abs=5e-4)
    assert high == pytest.approx(-0.026, abs=5e-4)


@settings(deadline=None, max_examples=60)
@given(counts, st.floats(-0.6, 0.6))
def test_z_has_the_restricted_maximum(cells, change):
    lost, gained, same = cells
    n = lost + gained + same
    expected = most_likely_z(lost, gained, n, change)
    if abs(change) > 1e-3:
        assert tango_z(lost, gained, n, change) == pytest.approx(expected, abs=2e-3, rel=2e-3)


@settings(deadline=None, max_examples=60)
@given(counts)
def test_z_at_no_change_is_that_of_mcnemar(cells):
    lost, gained, same = cells
    if lost + gained == 0:
        assert tango_z(0, 0, same, 0.0) == 0
        return
    found: Any = mcnemar([[same, gained], [lost, 0]], exact=False, correction=False)
    assert tango_z(lost, gained, sum(cells), 0.0) ** 2 == pytest.approx(found.statistic)


@settings(deadline=None, max_examples=60)
@given(counts, st.floats(0.5, 0.999))
def test_interval_is_what_the_score_test_does_not_refuse(cells, level):
    lost, gained, _ = cells
    n = sum(cells)
    low, high = tango_interval(lost, gained, n, level=level)
    quantile = stats.norm.ppf((1 + level) / 2)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    if low > -1:
        assert tango_z(lost, gained, n, low) == pytest.approx(quantile, abs=1e-6)
    if high < 1:
        assert tango_z(lost, gained, n, high) == pytest.approx(-quantile, abs=1e-6)
    swapped = tango_interval(gained, lost, n, level=level)
    assert (-swapped[1], -swapped[0]) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_interval_without_differences_has_a_width():
    """With nothing discordant the ends are -+ z^2 / (n + z^2), by solving z(change) by hand."""
    low, high = tango_interval(0, 0, 100)
    z2 = stats.norm.ppf(0.975) ** 2
    assert high == pytest.approx(z2 / (100 + z2))
    assert low == pytest.approx(-high)
    assert tango_interval(5, 0, 5)[0] == -1
    assert tango_interval(0, 5, 5)[1] == 1


@settings(deadline=None, max_examples=40)
@given(counts, st.floats(0.01, 0.4))
def test_wald_test_is_the_paired_test_of_statsmodels(cells, margin):
    lost, gained, _ = cells
    n = sum(cells)
    d = values(lost, gained, n)
    if np.ptp(d) == 0:
        assert np.isnan(wald_tost_p(lost, gained, n, margin))
        return
    _, (t_low, *_), (t_high, *_) = ttost_paired(d, np.zeros(n), -margin, margin)
    expected = max(stats.norm.sf(t_low), stats.norm.cdf(t_high))
    assert wald_tost_p(lost, gained, n, margin) == pytest.approx(expected, abs=1e-12)
    low, high = wald_interval(lost, gained, n)
    half = 1.959964 * stats.sem(d)
    assert (low, high) == (pytest.approx(d.mean() - half, abs=1e-6), pytest.approx(d.mean() + half, abs=1e-6))


def test_score_and_wald_tests_agree_for_many_examples():
    assert tost_p(900, 1000, 50_000, 0.004) == pytest.approx(float(wald_tost_p(900, 1000, 50_000, 0.004)), rel=0.02)


def exact_size(test, n, margin, gained_share):
    """Probability that `test` rejects when accuracy falls by exactly `margin`, by adding up all likely outcomes."""
    lost_share = gained_share + margin
    b = np.arange(int(stats.binom.ppf(1 - 1e-9, n, lost_share)) + 1)[:, None]
    c = np.arange(int(stats.binom.ppf(1 - 1e-9, n, gained_share)) + 1)[None, :]
    inside = b + c <= n
    p = np.where(inside, test(np.where(inside, b, 0), np.where(inside, c, 0), n, margin), 1.0)
    weight = stats.binom.pmf(b, n, lost_share) * stats.binom.pmf(
        c, np.maximum(n - b, 0), gained_share / (1 - lost_share)
    )
    return float(weight[p <= 0.05].sum())


@pytest.mark.parametrize("n", [100, 300, 1000, 10_000])
@pytest.mark.parametrize("margin", [0.005, 0.01, 0.05])
def test_size_at_the_margin(n, margin):
    """At the margin, where the hypothesis is just true, 5 % may be rejected; fewest examples allow 6.1 %."""
    for gained in (0.0, 0.5 / n, 2 / n, 20 / n):
        assert exact_size(tost_p, n, margin, gained) <= 0.061
        assert exact_size(noninferiority_p, n, margin, gained) <= 0.061
    if n * margin >= 10:
        assert exact_size(tost_p, n, margin, 2 / n) >= 0.04


def test_intervals_cover():
    rng = np.random.default_rng(0)
    for n, lost, gained in ((100, 0.02, 0.01), (400, 0.1, 0.05), (2000, 0.004, 0.003)):
        b, c, _ = rng.multinomial(n, [lost, gained, 1 - lost - gained], size=4000).T
        low, high = tango_interval(b, c, n)
        assert 0.94 <= ((low <= gained - lost) & (gained - lost <= high)).mean() <= 0.985


def test_margins_come_from_the_same_test():
    low, high = tango_interval(30, 22, 5000, level=0.9)
    noninferiority, either = smallest_margins(low, high)
    assert noninferiority_p(30, 22, 5000, float(noninferiority)) == pytest.approx(0.05, abs=1e-6)
    assert tost_p(30, 22, 5000, float(either)) == pytest.approx(0.05, abs=1e-6)
    assert smallest_margins(0.01, 0.02) == (0, 0.02)


def test_power_is_as_planned():
    rng = np.random.default_rng(1)
    for discordance, margin, change, power in ((0.05, 0.01, 0.0, 0.8), (0.2, 0.03, 0.0, 0.9), (0.1, 0.02, -0.005, 0.8)):
        n = int(examples_needed(discordance, margin, change=change, power=power))
        shares = [(discordance - change) / 2, (discordance + change) / 2, 1 - discordance]
        b, c, _ = rng.multinomial(n, shares, size=6000).T
        assert (tost_p(b, c, n, margin) <= 0.05).mean() == pytest.approx(power, abs=0.025)
        assert examples_needed(discordance, margin, change=-change, power=power) == n


def test_power_at_the_limits():
    assert examples_needed(0.1, 0.01, change=0.01) == math.inf
    n = int(examples_needed(0.0, 0.01))
    assert tost_p(0, 0, n, 0.01) <= 0.05 < tost_p(0, 0, n - 1, 0.01)


def test_errors_name_what_is_wrong():
    for margin in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match=r"`margin` in \(0, 1\)"):
            tost_p(1, 1, 10, margin)
    with pytest.raises(ValueError, match="sum of at most `n`"):
        tango_interval(6, 6, 10)
    with pytest.raises(ValueError, match="`n` >= 1"):
        tango_interval(0, 0, 0)
    with pytest.raises(ValueError, match=r"`change` in \(-1, 1\)"):
        tango_z(1, 1, 10, 1.0)
    with pytest.raises(ValueError, match=r"`level` in \(0, 1\)"):
        tango_interval(1, 1, 10, level=1.0)
    with pytest.raises(ValueError, match="at least 2 examples"):
        wald_interval(0, 0, 1)
    with pytest.raises(ValueError, match="`discordance`"):
        examples_needed(0.001, 0.01, change=0.005)
    with pytest.raises(ValueError, match="`power`"):
        examples_needed(0.1, 0.01, power=1.0)
