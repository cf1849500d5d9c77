import pytest

from remnant.probes.attribution import METHODS, Attribution


def test_parts_are_methods():
    probe = Attribution(methods=("saliency", "occlusion"), examples=10)
    parts = probe.parts()
    assert [part.coords() for part in parts] == [{"method": ["saliency"]}, {"method": ["occlusion"]}]
    assert probe.coords() == {"method": ["saliency", "occlusion"]}
    assert len({part.key for part in parts}) == 2
    assert Attribution(methods=("saliency",), examples=10).key == parts[0].key


def test_keys_do_not_change():
    """A changed key orphans every published measurement."""
    assert Attribution(methods=("saliency",)).key == "9d25f57fd472ac04"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("salience",)}, "Did you mean 'saliency'"),
        ({"methods": ()}, "one or more"),
        ({"methods": ("saliency", "saliency")}, "each once"),
        ({"steps": 0}, "`steps` >= 1"),
        ({"samples": 0}, "`samples` >= 1"),
        ({"resolution": 0}, "`resolution` >= 1"),
        ({"noise": 0.0}, "`noise` > 0"),
        ({"square": 1.5}, "`square` in"),
        ({"examples": 0}, "`examples` >= 1"),
    ],
)
def test_refusals_say_what_was_expected(options, message):
    with pytest.raises(ValueError, match=message):
        Attribution(**options)


def test_defaults_are_known_methods():
    assert set(Attribution().methods) <= set(METHODS)
