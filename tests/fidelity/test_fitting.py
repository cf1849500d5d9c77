import numpy as np
import pytest

from remnant import fidelity
from remnant.codecs import Jpeg, ZfpPrecision
from remnant.fidelity.fitting import _edge, _share_interval, halves


@pytest.fixture(scope="module")
def found(bench):
    return fidelity.fit(bench, "jpeg", drop=0.03)


def test_the_setting_is_the_smallest_of_the_tested_ones_that_is_enough(found):
    kept = found.tried[found.tried["is_enough"]]
    assert found.codec == Jpeg(quality=int(kept["quality"].iloc[0]))
    assert kept["share_of_uint8"].iloc[0] == kept["share_of_uint8"].min()
    assert found.chosen.size("headers shared").uint8_share == kept["share_of_uint8"].iloc[0]
    assert len(found.tried) < 15


def test_the_search_agrees_with_a_grid_where_accuracy_is_monotone(bench):
    found = fidelity.fit(bench, "zfp-precision", drop=0.1)
    chooses, _ = halves(bench.material.data.labels)
    raw = bench.right(bench.raw)[:, chooses].mean()
    fell = {}
    for precision in range(1, 13):
        evaluated = bench.evaluate(ZfpPrecision(precision))
        fell[precision] = bench.right(evaluated.logits)[:, chooses].mean() - raw
    assert found.codec == ZfpPrecision(min(p for p, change in fell.items() if change >= -0.1))


def test_the_reported_change_is_that_of_the_half_that_the_search_did_not_read(bench, found):
    labels = bench.material.data.labels
    chooses, reports = halves(labels)
    assert sorted([*chooses, *reports]) == list(range(len(labels)))
    assert found.examples == (len(chooses), len(reports))
    raw, now = (bench.right(logits)[:, reports].mean() for logits in (bench.raw, found.chosen.logits))
    assert found.change[0] == pytest.approx(now - raw)
    assert found.change[1] < found.change[0] < found.change[2]
    assert found.accuracy == pytest.approx((raw, now))


def test_halves_split_every_class():
    labels = np.repeat([0, 1, 2], [10, 7, 4])
    first, second = halves(labels)
    assert np.abs(np.bincount(labels[first]) - np.bincount(labels[second])).max() <= 1


@pytest.mark.parametrize("first", range(9))
def test_bisection_finds_the_edge_in_few_steps(first):
    seen = []
    assert _edge(8, lambda place: seen.append(place) or place >= first) == first
    assert len(seen) <= 4


def test_the_interval_of_the_share_covers_the_truth():
    """Settings lose 0, 10, 20, 30 and 40 % of the answers; 20 % is allowed, the third but last is on the edge."""
    shares, losses = np.array([0.1, 0.2, 0.3, 0.4, 0.5]), np.array([0.4, 0.3, 0.2, 0.1, 0.0])
    covered = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        changes = -(rng.random(300) < losses[:, None]).astype(float)
        low, high = _share_interval(shares, changes, 0.25, seed)
        covered += low <= 0.3 <= high
    assert covered >= 36


def test_nothing_is_chosen_where_nothing_is_enough(bench, monkeypatch):
    from remnant.fidelity import fitting
    from remnant.fidelity.ladders import ladder

    coarse = ladder("zfp-rate")
    monkeypatch.setattr(fitting, "ladder", lambda text: type(coarse)(coarse.kind, coarse.parameter, coarse.codecs[:2]))
    found = fidelity.fit(bench, "zfp-rate", drop=0.0)
    assert found.codec is None
    assert np.isnan(found.share_interval).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": 1.0}, r"`drop` in \[0, 1\)"),
        ({"drop": -0.1}, r"`drop` in \[0, 1\)"),
        ({"codec": "png"}, "Expected `codec` to be one of"),
        ({"codec": "jepg"}, "Did you mean 'jpeg'"),
        ({"codec": "jpeg(quality=5)"}, "without 'quality', which is searched for"),
        ({"codec": "webp"}, "webp.* cannot store 'digits'"),
        ({"accounting": "container"}, "`accounting` one of"),
    ],
)
def test_mistakes_are_named(bench, options, message):
    with pytest.raises(ValueError, match=message):
        fidelity.fit(bench, **{"codec": "jpeg", **options})
