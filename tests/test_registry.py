import pytest

from remnant import registry


def test_a_built_in_name_is_found():
    assert registry.find("scheme", "a", {"a": 1}) == 1


def test_an_unknown_name_lists_all_and_the_nearest():
    with pytest.raises(
        registry.UnknownNameError, match=r"\['dense', 'float16'\], but got 'flaot16'. Did you mean 'float1"
    ):
        registry.find("scheme", "flaot16", {"dense": 1, "float16": 2})


def test_entry_points_of_other_packages_are_found(monkeypatch):
    class Point:
        name, value = "theirs", "package:thing"

        def load(self):
            return "loaded"

    registry._offered.cache_clear()
    monkeypatch.setattr(registry, "entry_points", lambda group: [Point()] if group == "remnant.analyses" else [])
    try:
        assert registry.find("analysis", "theirs", {}) == "loaded"
        assert registry.names("analysis", {"ours": 1}) == ["ours", "theirs"]
        with pytest.raises(ValueError, match="cannot be replaced"):
            registry.find("analysis", "theirs", {"theirs": 1})
    finally:
        registry._offered.cache_clear()


def test_two_packages_with_one_name_are_refused(monkeypatch):
    class Point:
        name, value = "twice", "package:thing"

    registry._offered.cache_clear()
    monkeypatch.setattr(registry, "entry_points", lambda group: [Point(), Point()])
    try:
        with pytest.raises(ValueError, match="Two installed packages offer 'twice'"):
            registry.find("scheme", "twice", {})
    finally:
        registry._offered.cache_clear()


def test_a_user_object_is_imported():
    assert registry.user_object("math:pi") == pytest.approx(3.14159, abs=1e-5)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("math", "such as 'package.module:function'"),
        ("no_such_module_here:f", "Cannot import 'no_such_module_here'"),
        ("math:sine", "Did you mean 'sin"),
    ],
)
def test_a_bad_reference_says_what_is_wrong(reference, message):
    with pytest.raises(ValueError, match=message):
        registry.user_object(reference)


def test_a_module_in_the_current_folder_is_found_by_the_advice(tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text("raise ImportError\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="It is in this folder: put `PYTHONPATH=.` in front"):
        registry.user_object("my_networks:small")
