import pytest

from remnant.probes.adversarial import Adversarial
from remnant.registry import UnknownNameError


def test_each_attack_is_a_part_with_its_own_coordinates():
    probe = Adversarial(budgets=(2, 4.5))
    parts = probe.parts()
    assert [part.attacks for part in parts] == [(name,) for name in probe.attacks]
    assert parts[1].coords() == {"attack": ["pgd"], "budget": [0.0, 2.0, 4.5]}
    assert len({part.key for part in parts}) == 5
    assert Adversarial(attacks=("pgd",), budgets=(2, 4.5)) == parts[1]


def test_keys_do_not_change():
    """A changed key orphans every published measurement."""
    assert Adversarial().key == "c00b5b1c46caff63"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attacks": ("pdg",)}, "Expected `attacks` to be one of .* Did you mean 'pgd'"),
        ({"attacks": ()}, "Expected `attacks` to name at least one attack"),
        ({"attacks": ("pgd", "pgd")}, "each once"),
        ({"budgets": ()}, "Expected `budgets` to rise within"),
        ({"budgets": (4, 2)}, "Expected `budgets` to rise within"),
        ({"budgets": (2, 2)}, "Expected `budgets` to rise within"),
        ({"budgets": (0, 2)}, "Expected `budgets` to rise within"),
        ({"budgets": (300,)}, "Expected `budgets` to rise within"),
        ({"steps": 0}, "Expected `steps` >= 1, but got 0"),
        ({"restarts": 0}, "Expected `restarts` >= 1"),
        ({"adaptive_steps": 0}, "Expected `adaptive_steps` >= 1"),
        ({"targets": 0}, "Expected `targets` >= 1"),
        ({"queries": 0}, "Expected `queries` >= 1"),
        ({"examples": 0}, "Expected `examples` >= 1"),
    ],
)
def test_settings_that_make_no_attack_are_refused(options, message):
    with pytest.raises((ValueError, UnknownNameError), match=message):
        Adversarial(**options)
