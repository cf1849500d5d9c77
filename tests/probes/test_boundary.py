import pytest

from remnant.probes.boundary import Boundary


def test_key_does_not_change():
    """A changed key orphans every stored measurement."""
    assert Boundary().key == "51cf857e82b8f99f"
    assert Boundary(examples=300, directions=5) == Boundary()
    assert Boundary(directions=6).key != Boundary().key


def test_every_array_has_one_value_per_example():
    assert all(dims[0] == "example" for dims in Boundary.dims.values())
    assert Boundary(directions=3).coords() == {"direction": [0, 1, 2]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("directions", 0),
        ("limit", 0.0),
        ("limit", float("inf")),
        ("tolerance", 0.0),
        ("tolerance", 1.0),
        ("candidates", 0),
        ("rounds", 0),
        ("examples", 0),
        ("worst_case", "fmn"),
    ],
)
def test_wrong_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"Expected `{field}`"):
        Boundary(**{field: value})
