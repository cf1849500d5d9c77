from remnant.lab import foreign


def test_all_names_of_the_package_are_found():
    assert all(callable(getattr(foreign, name)) or name in ("DATA_FORMS", "PRESETS") for name in foreign.__all__)
