import errno
import json
import multiprocessing
import os
import platform
from pathlib import Path

import numpy as np
import pytest

from remnant.schemes import MagnitudePruning
from remnant.store import (
    DamagedError,
    MissingError,
    NewerFormatError,
    Store,
    StoreError,
)
from remnant.stored_array import pack_text, unpack_text
from remnant.trial import Recipe, Subset, Trial

RECIPE = Recipe("digits", "mlp")
TRIAL = Trial(RECIPE)
ARRAYS = {"predictions": {"logits": np.arange(6, dtype=np.float32).reshape(2, 3), "included": np.ones(2, np.uint8)}}
RECORD = {"dataset": "f00d", "accuracy": {"test": 0.5}}


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    """A store on a disk and one on a remote kind of file system."""
    return Store(tmp_path / "store" if request.param == "local" else f"memory://{tmp_path}")


def file_of(store: Store, trial: Trial = TRIAL) -> Path:
    return Path(store.root, "trials", trial.key, "predictions.safetensors")


def test_what_is_published_is_read_back(store):
    store.publish(TRIAL, ARRAYS, RECORD)
    assert TRIAL in store
    assert store.manifest(TRIAL)["accuracy"] == {"test": 0.5}
    read = store.read(TRIAL)
    assert set(read) == {"logits", "included"}
    assert np.array_equal(read["logits"], ARRAYS["predictions"]["logits"])
    assert read["logits"].dtype == np.float32


def test_missing_lists_unfinished_trials_once_in_order(store):
    trials = [Trial(RECIPE, seed=s) for s in (3, 1, 2, 3)]
    store.publish(trials[1], ARRAYS, RECORD)
    assert [t.seed for t in store.missing(trials)] == [3, 2]


def test_an_empty_store_misses_everything(store):
    assert store.missing([TRIAL]) == [TRIAL]
    assert store.trials() == []
    assert TRIAL not in store


def test_trials_are_restored_from_their_manifests(store):
    trials = [TRIAL, Trial(RECIPE, MagnitudePruning(0.9), 2), Trial(RECIPE, seed=1, subset=Subset(1))]
    for trial in reversed(trials):
        store.publish(trial, ARRAYS, RECORD)
    assert store.trials() == trials


def test_second_writer_changes_nothing(tmp_path):
    store = Store(tmp_path)
    store.publish(TRIAL, ARRAYS, RECORD)
    before = file_of(store).read_bytes()
    store.publish(TRIAL, {"predictions": {"logits": np.zeros(1)}}, {"accuracy": {"test": 0.9}})
    assert file_of(store).read_bytes() == before
    assert store.manifest(TRIAL)["accuracy"] == {"test": 0.5}
    assert not list(tmp_path.glob(".partial/*"))


def _race(root: str, barrier, value: int) -> None:
    barrier.wait()
    Store(root).publish(TRIAL, {"predictions": {"logits": np.full(50_000, value, np.float32)}}, {"writer": value})


def test_sixteen_racing_writers_leave_one_complete_copy(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(16)
    writers = [context.Process(target=_race, args=(str(tmp_path), barrier, value)) for value in range(16)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 16
    store = Store(tmp_path)
    logits = store.read(TRIAL)["logits"]
    assert (logits == store.manifest(TRIAL)["writer"]).all()
    assert len(list(tmp_path.glob("trials/*"))) == 1
    assert not list(tmp_path.glob(".partial/*"))


def test_on_a_remote_file_system_the_last_manifest_names_complete_files(tmp_path):
    store = Store(f"memory://{tmp_path}/race")
    for value in range(3):
        store.publish(TRIAL, {"predictions": {"logits": np.full(10, value, np.float32)}}, {"writer": value})
    assert (store.read(TRIAL)["logits"] == store.manifest(TRIAL)["writer"]).all()


def test_a_directory_without_a_manifest_is_not_a_trial(tmp_path):
    store = Store(tmp_path)
    store.publish(TRIAL, ARRAYS, RECORD)
    Path(tmp_path, "trials", TRIAL.key, "trial.json").unlink()
    assert TRIAL not in store
    assert store.missing([TRIAL]) == [TRIAL]


def test_a_flipped_byte_is_a_named_error(tmp_path):
    store = Store(tmp_path)
    store.publish(TRIAL, ARRAYS, RECORD)
    data = bytearray(file_of(store).read_bytes())
    data[-1] ^= 1
    file_of(store).write_bytes(data)
    with pytest.raises(DamagedError, match=rf"trial {TRIAL.key} is damaged.*checksum differs.*Delete the folder .*run"):
        store.read(TRIAL)


def test_a_truncated_file_is_a_named_error(tmp_path):
    store = Store(tmp_path)
    store.publish(TRIAL, ARRAYS, RECORD)
    file_of(store).write_bytes(file_of(store).read_bytes()[:-5])
    with pytest.raises(DamagedError, match="bytes where"):
        store.read(TRIAL)


def test_a_missing_file_is_a_named_error(tmp_path):
    store = Store(tmp_path)
    store.publish(TRIAL, ARRAYS, RECORD)
    file_of(store).unlink()
    with pytest.raises(DamagedError, match="is missing. Delete the folder"):
        store.read(TRIAL)


def test_a_broken_manifest_is_a_named_error(tmp_path):
    store = Store(tmp_path)
    store.publish(TRIAL, ARRAYS, RECORD)
    Path(tmp_path, "trials", TRIAL.key, "trial.json").write_text("{")
    with pytest.raises(DamagedError, match="not readable as JSON"):
        store.manifest(TRIAL)


def test_a_manifest_of_a_newer_version_is_a_named_error(tmp_path):
    store = Store(tmp_path)
    store.publish(TRIAL, ARRAYS, RECORD)
    path = Path(tmp_path, "trials", TRIAL.key, "trial.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(NewerFormatError, match="was written in format 99.*Upgrade remnant"):
        store.read(TRIAL)


def test_a_damaged_trial_does_not_stop_the_others(tmp_path):
    store = Store(tmp_path)
    other = Trial(RECIPE, seed=1)
    store.publish(TRIAL, ARRAYS, RECORD)
    store.publish(other, ARRAYS, RECORD)
    file_of(store).unlink()
    assert store.read(other)["logits"].shape == (2, 3)
    store.discard(TRIAL)
    assert store.missing([TRIAL, other]) == [TRIAL]


def test_an_unknown_trial_says_what_to_do(store):
    with pytest.raises(MissingError, match=f"trial {TRIAL.key} is not in the store .* Run the study"):
        store.read(TRIAL)


def test_an_unknown_file_lists_those_there(store):
    store.publish(TRIAL, ARRAYS, RECORD)
    with pytest.raises(MissingError, match=r"without 'weights'; it has \['predictions'\]"):
        store.read(TRIAL, "weights")


def test_a_full_disk_leaves_no_half_trial(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="The disk is full: .* nothing of it is left behind. Finished trials are safe"):
        store.publish(TRIAL, ARRAYS, RECORD)
    assert TRIAL not in store
    assert not list(tmp_path.glob("trials/*"))
    assert not list(tmp_path.glob(".partial/*"))


def test_a_folder_without_a_manifest_does_not_keep_a_trial_out(tmp_path):
    """What a partial copy or an interrupted deletion leaves."""
    store = Store(tmp_path)
    store.publish(TRIAL, ARRAYS, RECORD)
    Path(tmp_path, "trials", TRIAL.key, "trial.json").unlink()
    assert TRIAL not in store
    store.publish(TRIAL, ARRAYS, RECORD)
    np.testing.assert_array_equal(store.read(TRIAL)["logits"], ARRAYS["predictions"]["logits"])
    assert not list(tmp_path.glob(".partial/*"))


def test_a_trial_is_discarded_at_once(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.discard(TRIAL)  # nothing to remove is no error
    store.publish(TRIAL, ARRAYS, RECORD)

    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.discard(TRIAL)
    assert not Path(tmp_path, "trials", TRIAL.key).exists()
    store.publish(TRIAL, ARRAYS, RECORD)
    assert TRIAL in store


def test_sweep_removes_what_interrupted_writers_left(tmp_path):
    store = Store(tmp_path)
    store.publish(TRIAL, ARRAYS, RECORD)
    # Process numbers end far below 2**31: one left by a dead writer, one by this living process, one elsewhere.
    names = [f"abc-{2**31 - 5}@{platform.node()}", f"abc-{os.getpid()}@{platform.node()}", "abc-1@another-host"]
    for name in names:
        Path(tmp_path, ".partial", name).mkdir(parents=True)
        Path(tmp_path, ".partial", name, "x").write_text("half")
    assert store.sweep() == 1
    assert sorted(p.name for p in tmp_path.glob(".partial/*")) == sorted(names[1:])
    assert TRIAL in store


def test_data_sets_are_kept_once(store):
    assert not store.has_dataset("f00d")
    pictures = np.zeros((2, 4, 4, 1), np.uint8)
    examples = {"test_labels": np.array([0, 1]), "test_ids": pack_text(["a", "b"])}
    store.publish_dataset("f00d", {"examples": examples, "test": {"pictures": pictures}}, {"name": "x"})
    assert store.has_dataset("f00d")
    record, read = store.dataset("f00d")
    assert record["name"] == "x"
    assert unpack_text(read["test_ids"]) == ["a", "b"]
    found = store.pictures("f00d", "test")
    assert found is not None
    assert found.shape == (2, 4, 4, 1)
    assert store.pictures("f00d", "train") is None


def test_text_survives_packing():
    texts = ["", "a", "été", "a b\nc"]
    assert unpack_text(pack_text(texts)) == texts


@pytest.mark.parametrize("root", ["{}/a[b]*", "memory://{}/a[b]*"])
def test_a_store_may_have_characters_of_patterns_in_its_name(root, tmp_path):
    store = Store(root.format(tmp_path))
    trials = [Trial(RECIPE, seed=seed) for seed in range(12)]
    for trial in trials:
        store.publish(trial, ARRAYS, RECORD)
    assert store.trials() == trials
    assert store.missing(trials) == []


def test_a_store_is_opened_by_its_folder_or_given_as_it_is(tmp_path):
    store = Store(tmp_path)
    assert Store.of(store) is store
    assert Store.of(str(tmp_path)).root == Store.of(tmp_path).root == store.root
