from itertools import pairwise

import numpy as np
import pytest

from remnant.codecs import ZfpRate
from remnant.fidelity import PARAMETERS, ladder


@pytest.mark.parametrize("kind", PARAMETERS)
def test_settings_go_from_coarse_to_fine(kind):
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    images = np.repeat(np.repeat(images[:, ::4, ::4], 4, axis=1), 4, axis=2)
    steps = ladder(kind)
    assert len({codec.label for codec in steps.codecs}) == len(steps)
    few = steps.codecs[:: max(1, len(steps) // 6)]
    sizes = [sum(map(len, codec.encode(images).streams)) for codec in few]
    assert sizes[0] < sizes[-1]
    assert sum(after < before for before, after in pairwise(sizes)) <= 1
    assert steps.value(0) == getattr(steps.codecs[0], PARAMETERS[kind])


def test_other_parameters_are_kept():
    steps = ladder("zfp-rate(layout=volume, dtype=int32)")
    assert steps.codecs[0] == ZfpRate(1 / 64, layout="volume", dtype="int32")
    assert all("layout=volume, dtype=int32" in codec.label for codec in steps.codecs)


def test_rates_start_where_a_block_holds_its_exponent():
    assert ladder("zfp-rate").value(0) == 9 / 16
    assert ladder("zfp-rate(layout=channels)").value(len(ladder("zfp-rate")) - 1) <= 16


@pytest.mark.parametrize("text", ["jpeg2000(lossless=True)", "webp(lossless = true)", "jpeg(", "jpeg(colour=1)"])
def test_labels_that_cannot_be_searched_are_refused(text):
    with pytest.raises(ValueError, match="Expected"):
        ladder(text)
