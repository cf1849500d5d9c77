import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from remnant.lab.selection import Examples, Selection, load, made, read
from remnant.schemes import Compose, Float16, SelectedData
from remnant.store import Store
from remnant.trial import Recipe, Trial, to_dict, trial_from_dict

IDS = np.array([f"toy-{k:02}" for k in range(20)])
EXAMPLES = Examples("toy", "0123456789abcdef", IDS, np.arange(20) % 4, tuple("abcd"))
PROVENANCE = {"score": "el2n", "scores_sha256": "ab", "share": 0.25, "seed": 0}


def selection(*places: list[int]) -> Selection:
    lists = places or ([3, 1, 7, 10, 19],)
    return made(EXAMPLES, [np.array(p) for p in lists], "el2n-hard", PROVENANCE)


def same(a: Selection, b: Selection) -> bool:
    return a.to_dict() == b.to_dict()


def test_keys_do_not_change():
    """A changed key orphans the trials of published selections."""
    assert selection().key == KEY


KEY = "50e48cdf053f6ba8"


def test_key_depends_on_ids_data_and_method_but_not_on_order():
    assert selection([19, 10, 7, 3, 1]).key == selection().key
    assert replace(selection(), provenance={}).key == selection().key
    others = [
        replace(selection(), method="other"),
        selection([3, 1, 7, 10]),
        selection([3], [1]),
        replace(selection(), fingerprint="f" * 16),
    ]
    assert len({s.key for s in [selection(), *others]}) == 5


def test_the_scheme_names_method_share_and_list():
    assert selection().scheme == SelectedData("el2n-hard", 0.25, KEY)
    nearly_all = Selection("toy", "", 50_000, "m", (tuple(map(str, range(49_999))),))
    assert nearly_all.share < 1
    assert Selection("toy", "", 3, "m", (("a",),)).share == 0.3333
    assert Selection("toy", "", 2, "m", (("a", "b"),)).share == 1


def test_each_seed_has_its_list():
    several = selection([0, 1], [2, 3], [4, 5])
    for seed, expected in ((0, [0, 1]), (1, [2, 3]), (2, [4, 5]), (3, [0, 1])):
        assert np.flatnonzero(several.mask(IDS, "0123456789abcdef", seed)).tolist() == expected


@pytest.mark.parametrize("places", [([3, 1],), ([0, 1], [2, 3], [4])])
def test_files_and_stores_give_back_what_they_were_given(places, tmp_path):
    original = selection(*places)
    original.write(tmp_path / "ids.json")
    assert same(read(tmp_path / "ids.json", EXAMPLES), original)
    store = Store(tmp_path / "store")
    assert original.publish(store) == original.scheme
    assert original.publish(store) == original.scheme  # a second time changes nothing
    assert same(load(store, original.key), original)


def test_a_text_file_holds_ids_alone(tmp_path):
    selection().write(tmp_path / "ids.txt")
    assert (tmp_path / "ids.txt").read_text().splitlines() == ["toy-01", "toy-03", "toy-07", "toy-10", "toy-19"]
    found = read(tmp_path / "ids.txt", EXAMPLES)
    assert (found.lists, found.method) == (selection().lists, "listed")


def test_text_files_may_have_comments_and_empty_lines(tmp_path):
    (tmp_path / "ids.txt").write_text("# mine\n\ntoy-01 \ntoy-02\n")
    assert read(tmp_path / "ids.txt", EXAMPLES).lists == (("toy-01", "toy-02"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("toy-01\ntoy-99\n", r"1 of 2 are none of them: \['toy-99'\]. Ids here are like \['toy-00', 'toy-01'\]"),
        ("toy-01\ntoy-01\n", "'toy-01' comes more than once"),
        ("\n", "at least 1 id"),
    ],
)
def test_bad_lists_are_clear_errors(text, message, tmp_path):
    (tmp_path / "ids.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "ids.txt", EXAMPLES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "other"}, "to be a selection that remnant wrote"),
        ({"ids": 3}, "to be a selection that remnant wrote"),
        ({"ids": [["toy-01"]]}, "are not those that it was written with"),
        ({"selection_format": 99}, "to be a selection that remnant wrote"),
    ],
)
def test_damaged_files_are_clear_errors(change, message, tmp_path):
    path = tmp_path / "ids.json"
    path.write_text(json.dumps({**selection().to_dict(), **change}))
    with pytest.raises(ValueError, match=message):
        read(path, EXAMPLES)


def test_other_mistakes_are_clear_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read(tmp_path / "ids.json")
    (tmp_path / "ids.txt").write_text("toy-01\n")
    with pytest.raises(ValueError, match="a text file does not say it"):
        read(tmp_path / "ids.txt")
    (tmp_path / "ids.json").write_text("no JSON")
    with pytest.raises(ValueError, match="to be a selection that remnant wrote"):
        read(tmp_path / "ids.json")
    with pytest.raises(ValueError, match=r"ends in .json or .txt"):
        selection().write(tmp_path / "ids.csv")
    with pytest.raises(ValueError, match="Expected one list for"):
        selection([1], [2]).write(tmp_path / "ids.txt")
    with pytest.raises(ValueError, match="to hold the selection 0123456789abcdef, but it does not"):
        load(Store(tmp_path), "0123456789abcdef")
    with pytest.raises(ValueError, match="was made for data with fingerprint 0123456789abcdef"):
        selection().mask(IDS, "f" * 16, 0)
    selection().write(tmp_path / "good.json")
    with pytest.raises(ValueError, match="to be made for data with fingerprint ffff"):
        read(tmp_path / "good.json", replace(EXAMPLES, fingerprint="f" * 16))


def test_trials_on_chosen_data_keep_their_key_and_survive_plain_data():
    trial = Trial(Recipe("digits", "mlp"), SelectedData("el2n-hard", 0.25, "0123456789abcdef"), 3)
    assert trial.key == TRIAL_KEY
    assert trial.parent is None
    assert trial_from_dict(to_dict(trial)) == trial
    assert trial.scheme.label == "selected-data(method=el2n-hard, share=0.25, selection=0123456789abcdef)"


TRIAL_KEY = "48e2a606571fb377"


def test_what_a_trial_starts_from_decides_its_data():
    chosen = SelectedData("el2n-hard", 0.25, "0123456789abcdef")
    recipe = Recipe("digits", "mlp")
    composed = Trial(recipe, Compose((chosen, Float16())))
    assert composed.selected == chosen
    assert composed.parent == Trial(recipe, chosen)
    assert Trial(recipe, Float16()).selected is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("random", 0.0, KEY), r"Expected `share` in \(0, 1\], but got 0.0"),
        (("random", 0.5, "nothing"), "Expected `selection` of the form"),
        (("by hand, me", 0.5, KEY), "Expected `method` of the form"),
    ],
)
def test_bad_fields_are_clear_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        SelectedData(*fields)


def test_lists_are_read_and_written_without_torch():
    code = "import sys, remnant.lab.selection, remnant.sufficient; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
