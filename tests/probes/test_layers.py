from remnant.probes.layers import Layers


def test_key_does_not_change():
    """A changed key orphans every stored measurement."""
    assert Layers().key == "5869d3bac802b7a7"
    assert Layers(examples=200).key != Layers().key
