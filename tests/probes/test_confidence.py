import pytest

from remnant.probes.confidence import Confidence


def test_every_training_example_of_every_trial_is_probed():
    probe = Confidence()
    assert probe.examples is None
    assert probe.split == "train"
    assert probe.on_subsets
    assert len(probe.rows(7)) == 7
    assert set(probe.dims) == {"confidence", "loss"}


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"Expected `precision` to be one of \['float16', 'float32'\]"):
        Confidence(precision="float8")  # pyright: ignore[reportArgumentType]


def test_settings_change_the_key():
    assert len({Confidence().key, Confidence(precision="float32").key, Confidence(examples=5).key}) == 3
