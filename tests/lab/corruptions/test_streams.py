from typing import Any

import numpy as np
import pytest
from scipy import stats

from remnant.lab.corruptions.streams import Draws, fingerprints, normal_quantiles, splitmix64


def test_splitmix64_gives_its_published_numbers():
    """The first five numbers from the seed 1234567, as in rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    expected.append(16408922859458223821)
    assert splitmix64(np.array(1234567, np.uint64), 5).tolist() == expected


def test_numbers_depend_on_the_id_and_the_name_alone():
    ids = [f"test-{i}" for i in range(50)]
    whole = Draws(fingerprints(ids), "fog/3")
    part = Draws(fingerprints(ids[7:9][::-1]), "fog/3")
    for draw in ("words", "sixteenths", "uniform", "normal"):
        found = getattr(whole, draw)("cloud", 10)
        np.testing.assert_array_equal(found[[8, 7]], getattr(part, draw)("cloud", 10))
        np.testing.assert_array_equal(found[:, :4], getattr(whole, draw)("cloud", 4))
    assert (Draws(fingerprints(ids), "fog/4").words("cloud", 10) != whole.words("cloud", 10)).all()
    assert (whole.words("angle", 10) != whole.words("cloud", 10)).all()


def test_numbers_do_not_change():
    """Changed numbers would make measurements of different versions differ without a trace."""
    draws = Draws(fingerprints(["cifar10-test-00000"]), "gaussian_noise/1")
    assert draws.sixteenths("noise", 6).tolist() == [[6017, 57514, 56092, 619, 7703, 64905]]


def test_numbers_look_random_within_and_between_examples():
    draws = Draws(fingerprints(range(400)), "noise/1")
    uniform, normal = draws.uniform("u", 500), draws.normal("z", 500)
    for along in (uniform, uniform.T):
        test: Any = stats.kstest(along.ravel(), "uniform")
        assert test.pvalue > 0.001
        both: Any = np.corrcoef(along[:, :-1].ravel(), along[:, 1:].ravel())
        lag = both[0, 1]
        assert abs(lag) < 4 / np.sqrt(along.size)
    between: Any = np.corrcoef(uniform)
    assert abs(between[np.triu_indices(400, 1)].mean()) < 1e-3
    test = stats.kstest(normal.ravel(), "norm")
    assert test.pvalue > 0.001
    counts = np.bincount(draws.sixteenths("u", 4000).ravel() >> 8, minlength=256)
    assert stats.chisquare(counts).pvalue > 0.001


def test_quantiles_have_the_stated_moments():
    z = normal_quantiles().astype(float)
    assert z.mean() == pytest.approx(0, abs=1e-6)
    assert z.std() == pytest.approx(0.99999, abs=1e-6)
    assert z.max() == pytest.approx(4.33, abs=0.01)
