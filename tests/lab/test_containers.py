from pathlib import Path

import numpy as np
import pytest
import torch

from remnant.codecs import Jpeg, Png, Raw
from remnant.codecs.container import DamagedExampleError, open_container
from remnant.codecs.container_writer import Examples, write
from remnant.lab import containers
from remnant.lab.containers import ContainerImages, from_containers, write_dataset
from remnant.lab.data import load
from remnant.lab.dataset import assemble, split, take
from tests.codecs.crops import crops


def photographs(number: int = 12):
    labels = np.arange(number) % 2
    parts = [
        split(
            crops(2 * number)[rows].copy(),
            labels,
            np.array([f"{name}-{i}" for i in range(number)]),
            {"row": labels + 5},
        )
        for name, rows in (("train", slice(0, number)), ("test", slice(number, None)))
    ]
    return assemble("photographs", parts[0], parts[1], ["even", "odd"])


def test_a_lossless_container_is_the_data_set(tmp_path):
    dataset = photographs()
    write_dataset(dataset, tmp_path / "a.rmn", Png())
    again = from_containers("container:a.rmn", tmp_path, "a.rmn")
    assert again.fingerprint == dataset.fingerprint
    assert again.classes == dataset.classes
    torch.testing.assert_close(again.mean, dataset.mean)
    np.testing.assert_array_equal(again.test.groups["row"], dataset.test.groups["row"])


def test_images_on_disk_are_those_in_memory(tmp_path, monkeypatch):
    write_dataset(photographs(), tmp_path / "a.rmn", Jpeg(quality=30))
    memory = from_containers("container:a.rmn", tmp_path, "a.rmn")
    monkeypatch.setattr(containers, "IN_MEMORY", 10)
    disk = from_containers("container:a.rmn", tmp_path, "a.rmn")
    assert isinstance(disk.train.images, ContainerImages)
    assert disk.input_shape == memory.input_shape == (3, 32, 32)
    torch.testing.assert_close(take(disk.test.images, [5, 0, 5]), take(memory.test.images, [5, 0, 5]))
    torch.testing.assert_close(disk.mean, memory.mean)
    fingerprint = disk.fingerprint
    write_dataset(photographs(), tmp_path / "a.rmn", Jpeg(quality=31))
    assert from_containers("container:a.rmn", tmp_path, "a.rmn").fingerprint != fingerprint


def test_training_on_one_file_and_testing_on_another(tmp_path):
    dataset = photographs()
    write_dataset(dataset, tmp_path / "raw.rmn", Raw())
    write_dataset(dataset, tmp_path / "jpeg.rmn", Jpeg(quality=5))
    both = from_containers("container:raw.rmn,jpeg.rmn", tmp_path, "raw.rmn,jpeg.rmn")
    torch.testing.assert_close(both.train.images, dataset.train.images)
    decoded = open_container(tmp_path / "jpeg.rmn").split("test").batch(np.arange(12))
    np.testing.assert_array_equal(take(both.test.images, np.arange(12)).permute(0, 2, 3, 1).numpy(), decoded)
    assert (decoded != crops(24)[12:]).any()


def test_files_of_one_split_each_whatever_its_name(tmp_path):
    labels = np.arange(12) % 3
    for name in ("a", "b"):
        write(tmp_path / name, [Examples(crops(12), labels, split="all")], Raw())
    dataset = from_containers("container:a,b", tmp_path, "a,b")
    assert dataset.classes == ("0", "1", "2")
    assert len(dataset.train) == len(dataset.test) == 12


def test_progress_counts_both_splits(tmp_path):
    calls: list[tuple[int, int]] = []
    write_dataset(photographs(), tmp_path / "a.rmn", Raw(), progress=lambda done, of: calls.append((done, of)))
    assert calls[-1] == (24, 24)
    assert {of for _, of in calls} == {24}


def test_what_cannot_be_a_data_set_is_told(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="Expected a container, but .*absent.* does not exist"):
        from_containers("container:absent", tmp_path, "absent")
    with pytest.raises(ValueError, match="Expected container:FILE or container:TRAIN,TEST, but got 'container:a,b,c'"):
        from_containers("container:a,b,c", tmp_path, "a,b,c")
    write(tmp_path / "unlabelled", [Examples(crops(4))], Raw())
    with pytest.raises(ValueError, match="Expected labels in .*unlabelled, but it has none"):
        from_containers("container:unlabelled", tmp_path, "unlabelled")
    parts = [Examples(crops(4), np.arange(4), split=name) for name in ("train", "val")]
    write(tmp_path / "val", parts, Raw())
    with pytest.raises(ValueError, match=r"the split 'test' in .*val, but it has \['train', 'val'\]"):
        from_containers("container:val", tmp_path, "val")
    for name, classes in (("x", ["a", "b"]), ("y", ["b", "a"])):
        write(tmp_path / name, [Examples(crops(4), np.arange(4) % 2)], Raw(), classes=classes)
    with pytest.raises(ValueError, match=r"the same classes in both files of .* but got \['a', 'b'\] and \['b', 'a'\]"):
        from_containers("container:x,y", tmp_path, "x,y")
    features = split(np.ones((4, 3), np.float32), np.arange(4) % 2, np.arange(4))
    with pytest.raises(ValueError, match=r"Expected images, but the inputs are features of shape \(3,\)"):
        write_dataset(assemble("features", features, features, ["a", "b"]), tmp_path / "f", Raw())


def test_a_damaged_example_is_named_when_it_is_loaded(tmp_path):
    write_dataset(photographs(), tmp_path / "a.rmn", Jpeg())
    at = int(open_container(tmp_path / "a.rmn").streams.offset[3])
    data = bytearray((tmp_path / "a.rmn").read_bytes())
    data[at] ^= 1
    (tmp_path / "a.rmn").write_bytes(data)
    with pytest.raises(DamagedExampleError, match="'train-3'"):
        from_containers("container:a.rmn", tmp_path, "a.rmn")


def test_grey_digits_go_through_a_container(tmp_path):
    digits = load("digits")
    write_dataset(digits, tmp_path / "digits.rmn", Png())
    assert from_containers("container:digits.rmn", tmp_path, "digits.rmn").fingerprint == digits.fingerprint
