import pytest

from remnant.probes.soft_tree import SoftTree


def test_key_does_not_change():
    """A changed key orphans every stored measurement."""
    assert SoftTree().key == "a363ff66f3f14331"
    assert SoftTree(depth=5, examples=10000) == SoftTree()
    assert SoftTree(depth=6).key != SoftTree().key


def test_no_array_has_the_name_of_a_dimension():
    assert not SoftTree.dims.keys() & {dim for dims in SoftTree.dims.values() for dim in dims}


def test_nodes_and_leaves_are_counted():
    assert SoftTree(depth=2).coords() == {"leaf": [0, 1, 2, 3], "node": [0, 1, 2]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("depth", 0),
        ("depth", 11),
        ("training", 1),
        ("size", 0),
        ("steps", 0),
        ("batch_size", 0),
        ("temperature", 0.0),
        ("inverse_temperature", 0.0),
        ("learning_rate", 0.0),
        ("penalty", -0.1),
        ("weight_decay", -1.0),
        ("examples", 0),
    ],
)
def test_wrong_fields_are_named(field, value):
    with pytest.raises(ValueError, match=f"Expected `{field}`"):
        SoftTree(**{field: value})
