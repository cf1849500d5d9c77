import pytest

from remnant.probes.corruptions import COMMON, Corruptions
from remnant.probes.probe import settings, to_dict


def test_parts_are_the_corruptions_with_all_severities():
    probe = Corruptions(examples=7, corruptions=("fog", "snow"), severities=(1, 5))
    parts = probe.parts()
    assert [part.corruptions for part in parts] == [("fog",), ("snow",)]
    assert {(part.examples, part.severities) for part in parts} == {(7, (1, 5))}
    assert probe.coords() == {"corruption": ["fog", "snow"], "severity": [1, 5]}
    assert len(Corruptions().parts()) == len(COMMON) == 15


def test_a_part_has_the_same_key_whatever_else_is_measured():
    assert Corruptions(corruptions=("fog",)).key in [part.key for part in Corruptions().parts()]
    assert len({part.key for part in Corruptions().parts()}) == 15


def test_default_settings_are_left_out_of_the_key():
    assert to_dict(Corruptions()) == {"kind": "corruptions"}
    assert set(settings(Corruptions())) == {"examples", "corruptions", "severities", "constants", "quirks"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corruptions": ("frog",)}, "Did you mean 'fog'"),
        ({"corruptions": ()}, "at least 1 value"),
        ({"corruptions": ("fog", "fog")}, "each value once"),
        ({"severities": (0,)}, "`severities` to be one of"),
        ({"constants": "128"}, "`constants` to be one of"),
        ({"quirks": ("none",)}, "`quirks` to be one of"),
        ({"examples": 0}, "`examples`"),
    ],
)
def test_what_there_is_not_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Corruptions(**options)


def test_no_quirk_is_allowed():
    assert Corruptions(quirks=()).quirks == ()
