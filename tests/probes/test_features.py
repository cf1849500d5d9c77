from remnant.probes.features import Features


def test_key_does_not_change():
    """A changed key orphans every stored measurement."""
    assert Features().key == "82e0f7aaf99d660f"
    assert Features(examples=2000, layer="") == Features()
    assert Features(layer="head").key != Features().key


def test_every_array_has_one_value_per_example():
    assert all(dims[0] == "example" for dims in Features.dims.values())
