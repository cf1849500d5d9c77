import gzip
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from remnant import registry
from remnant.lab import data, image_folders
from remnant.lab.data import DATASETS, Dataset, Split, load, take
from remnant.registry import UnknownNameError


def images(number: int, *, seed: int = 0, shape: tuple[int, ...] = (6, 5, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (number, *shape), dtype=np.uint8)


def arrays(**changes: object) -> dict[str, np.ndarray]:
    """A valid set of arrays; `changes` replace some, None takes one away."""
    given: dict[str, object] = {
        "train_images": images(9),
        "train_labels": np.arange(9) % 3,
        "test_images": images(6, seed=1),
        "test_labels": np.arange(6) % 3,
    }
    return {name: np.asarray(value) for name, value in {**given, **changes}.items() if value is not None}


def from_arrays(folder: Path, changes: Mapping[str, object] | None = None, column: str = "") -> Dataset:
    np.savez(folder / "set.npz", **arrays(**(changes or {})))  # pyright: ignore[reportArgumentType]
    return load(f"arrays:set.npz{column}", folder)


def pixels(split: Split, index: int) -> np.ndarray:
    """One image, with the channels last."""
    return take(split.images, [index])[0].permute(1, 2, 0).numpy()


def folders(root: Path, *, sizes: tuple[tuple[int, int], ...] = ((8, 8),), mode: str = "RGB") -> Path:
    """Pictures in root/{train,test}/{ant,bee}/."""
    number = 0
    for part, count in (("train", 3), ("test", 2)):
        for name in ("ant", "bee"):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                width, height = sizes[number % len(sizes)]
                pixels = images(1, seed=number, shape=(height, width, 3))[0]
                Image.fromarray(pixels).convert(mode).save(root / part / name / f"{i}.png")
                number += 1
    return root


# Named sets


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    digits = load("digits")
    assert (len(digits.train), len(digits.test), digits.input_shape, digits.num_classes) == (1442, 355, (1, 8, 8), 10)
    for part in (digits.train, digits.test):
        position = [int(name.removeprefix("digits-")) for name in part.ids]
        assert np.array_equal(part.labels, labels[position])
        np.testing.assert_allclose(
            take(part.images, np.arange(len(part))).flatten(1) / 255, pixels[position] / 16, atol=1 / 500
        )
    assert {*digits.train.ids} | {*digits.test.ids} == {f"digits-{i:05d}" for i in range(1797)}


def test_a_fifth_of_each_digit_is_for_testing():
    digits = load("digits")
    share = np.bincount(digits.test.labels) / np.bincount(torch.cat([digits.train.labels, digits.test.labels]))
    assert ((share > 0.19) & (share <= 0.2)).all()


def test_digits_have_the_fingerprint_of_stored_trials():
    """A changed fingerprint makes every stored trial refuse its data."""
    assert load("digits").fingerprint == "468008ad07df05a0"


def test_digits_can_be_read_without_the_file(monkeypatch):
    before = load("digits")
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda _: None)
    assert load("digits").fingerprint == before.fingerprint


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.mark.parametrize("where", ["FashionMNIST/raw", "fashion-mnist", "."])
@pytest.mark.parametrize("packed", [True, False])
def test_fashion_mnist_is_found_where_torchvision_and_debian_put_it(tmp_path, where, packed):
    from torchvision.datasets.mnist import read_image_file, read_label_file

    folder = tmp_path / where
    folder.mkdir(parents=True, exist_ok=True)
    for part, number in (("train", 20), ("t10k", 10)):
        pictures, labels = images(number, shape=(28, 28)), (np.arange(number) % 10).astype(np.uint8)
        for name, values in ((f"{part}-images-idx3-ubyte", pictures), (f"{part}-labels-idx1-ubyte", labels)):
            path = folder / f"{name}.gz" if packed else folder / name
            path.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
            (tmp_path / f"{name}.plain").write_bytes(idx(values))
    fashion = load("fashion-mnist", tmp_path)
    theirs = read_image_file(str(tmp_path / "train-images-idx3-ubyte.plain"))
    assert torch.equal(take(fashion.train.images, np.arange(20)), theirs.unsqueeze(1))
    assert torch.equal(fashion.test.labels, read_label_file(str(tmp_path / "t10k-labels-idx1-ubyte.plain")))
    assert fashion.test.ids[3] == "fashion-mnist-test-00003"
    assert fashion.classes[9] == "ankle boot"


@pytest.mark.parametrize("content", [b"", idx(np.zeros((2, 2), np.uint8)), idx(images(3, shape=(28, 28)))[:-1]])
def test_damaged_idx_files_are_named(tmp_path, content):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match="train-images-idx3-ubyte to be an IDX file"):
        load("fashion-mnist", tmp_path)


def test_a_broken_gzip_file_is_named(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images(3, shape=(28, 28))))[:-20])
    with pytest.raises(ValueError, match=r"Cannot unpack .*train-images-idx3-ubyte\.gz"):
        load("fashion-mnist", tmp_path)


def cifar_files(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        rows = images(10, seed=i, shape=(3072,))
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": list(range(10))}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}))


def test_cifar10_is_read_in_torchvisions_layout(tmp_path, monkeypatch):
    from torchvision.datasets import cifar

    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)
    cifar_files(tmp_path)
    found = load("cifar10", tmp_path)
    assert found.input_shape == (3, 32, 32)
    assert found.classes[2] == "class 2"
    assert found.train.ids[10] == "cifar10-train-00010"
    # A row of the file holds the red plane, then the green, then the blue one.
    assert np.array_equal(take(found.train.images, [10]), images(10, seed=1, shape=(3, 32, 32))[:1])
    assert np.array_equal(take(found.test.images, [7]), images(10, seed=5, shape=(3, 32, 32))[7:8])


def celeba_files(root: Path) -> np.ndarray:
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{i:06d}.jpg" for i in range(1, 11)]
    columns = ["Bald", "Blond_Hair", "Male", *(f"A{i}" for i in range(37))]
    values = np.where(np.random.default_rng(0).random((10, 40)) < 0.5, 1, -1)
    values[:, 1] = [1, -1] * 5
    rows = [f"{name} {' '.join(map(str, row))}" for name, row in zip(names, values, strict=True)]
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(len(names)), " ".join(columns) + " ", *rows]) + "\n")
    parts = [0] * 6 + [1] + [2] * 3
    (folder / "list_eval_partition.txt").write_text("\n".join(f"{n} {p}" for n, p in zip(names, parts, strict=True)))
    for other in ("identity_CelebA.txt", "list_bbox_celeba.txt", "list_landmarks_align_celeba.txt"):
        header = "" if other.startswith("identity") else "10\nx y\n"
        (folder / other).write_text(header + "\n".join(f"{name} 1 1" for name in names))
    for i, name in enumerate(names):
        face = Image.new("RGB", (178, 218), (0, 0, 0))
        face.paste((20 * i, 100, 200), (0, 20, 178, 198))
        face.save(folder / "img_align_celeba" / name, quality=95)
    return values


def test_celeba_is_blond_or_not_with_all_attributes(tmp_path, monkeypatch):
    from torchvision.datasets import CelebA

    monkeypatch.setattr(CelebA, "_check_integrity", lambda _: True)
    values = celeba_files(tmp_path)
    faces = load("celeba", tmp_path)
    assert faces.classes == ("not blond", "blond")
    assert faces.train.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert faces.test.ids.tolist() == ["000008.jpg", "000009.jpg", "000010.jpg"]
    assert faces.input_shape == (3, 64, 64)
    assert len(faces.test.groups) == 40
    assert faces.test.groups["Male"].tolist() == (values[7:, 2] > 0).astype(int).tolist()
    # The middle square holds no black border; colours survive.
    middle = take(faces.test.images, [2])[0]
    assert middle[2].min() > 180
    assert abs(int(middle[0].float().mean()) - 180) <= 3
    assert faces.fingerprint == load("celeba", tmp_path).fingerprint


def test_imagenet_is_read_from_class_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(image_folders, "IN_MEMORY", 0)
    root = folders(tmp_path / "imagenet", sizes=((300, 400), (500, 250)))
    (root / "test").rename(root / "val")
    found = load("imagenet", tmp_path)
    assert found.classes == ("ant", "bee")
    assert found.input_shape == (3, 224, 224)
    assert not isinstance(found.train.images, Tensor)
    assert found.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert found.test.ids.tolist() == ["ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png"]
    # What torchvision's usual evaluation transform shows: shorter side 256, middle 224.
    from torchvision.transforms import v2

    usual = v2.Compose([v2.Resize(256, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224)])
    with Image.open(root / "val" / "bee" / "1.png") as image:
        theirs = v2.functional.pil_to_tensor(usual(image))
    difference = (take(found.test.images, [3])[0].float() - theirs.float()).abs()
    assert difference.mean() < 1.5

    torch.save(({"ant": ("emmet", "pismire"), "bee": ("bee",)}, []), root / "meta.bin")
    assert load("imagenet", tmp_path).classes == ("ant emmet", "bee bee")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "celeba", "fashion-mnist", "imagenet"])
def test_missing_data_say_where_they_were_looked_for_and_how_to_get_them(name, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "DEBIAN_FASHION", tmp_path / "debian")
    with pytest.raises(FileNotFoundError) as caught:
        load(name, tmp_path)
    assert str(tmp_path.resolve()) in str(caught.value)
    assert "torchvision.datasets." in str(caught.value)


def test_unknown_names_get_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'cifar10'"):
        load("cifar")
    with pytest.raises(UnknownNameError, match="Did you mean 'arrays:FILE.npz'"):
        load("array:file.npz")
    with pytest.raises(UnknownNameError, match="imagefolder:DIR"):
        load("arrays:")


def test_packages_can_offer_data_sets(monkeypatch, tmp_path):
    class Point:
        def __init__(self, value: object) -> None:
            self.value = value

        def load(self):
            return lambda root: self.value

    made = from_arrays(tmp_path)
    offered = {"remnant.datasets": {"mine": Point(made), "wrong": Point("text")}}
    monkeypatch.setattr(registry, "_offered", lambda group: offered.get(group, {}))
    assert load("mine") is made
    with pytest.raises(TypeError, match="Expected the data set 'wrong' to be a remnant Dataset, but got str"):
        load("wrong")


def test_listed_names_can_be_loaded_or_say_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "DEBIAN_FASHION", tmp_path)
    for name in DATASETS:
        if name != "digits":
            with pytest.raises(FileNotFoundError):
                load(name.replace("TRANSFORM:NAME", "dct-4:cifar10"), tmp_path)


def test_the_root_is_the_argument_then_the_variable_then_the_current_folder(tmp_path, monkeypatch):
    for name, seed in (("given", 1), ("variable", 2), ("current", 3)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "set.npz", **arrays(train_images=images(9, seed=seed)))  # pyright: ignore
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setenv("REMNANT_DATA", str(tmp_path / "variable"))

    def first_pixels(root: Path | None) -> np.ndarray:
        return pixels(load("arrays:set.npz", root).train, 0)

    assert np.array_equal(first_pixels(tmp_path / "given"), images(9, seed=1)[0])
    assert np.array_equal(first_pixels(None), images(9, seed=2)[0])
    monkeypatch.delenv("REMNANT_DATA")
    assert np.array_equal(first_pixels(None), images(9, seed=3)[0])


def test_reading_data_by_name_does_not_import_scikit_learn_or_torchvision():
    """They take longer to import than a digit classifier takes to train."""
    code = "import sys, remnant.lab.data as d; d.load('digits'); print({'sklearn', 'torchvision'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Arrays


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_layouts_and_compression_of_arrays_change_nothing(tmp_path, layout, save):
    given = arrays()
    for part in ("train_images", "test_images"):
        given[part] = given[part] if layout == "NHWC" else np.moveaxis(given[part], 3, 1)
    save(tmp_path / "other.npz", **given)
    found = load("arrays:other.npz", tmp_path)
    assert found.input_shape == (3, 6, 5)
    assert all(np.array_equal(pixels(found.train, i), images(9)[i]) for i in range(9))
    assert found.fingerprint == from_arrays(tmp_path).fingerprint


def test_data_stay_as_they_were_read(tmp_path):
    found = from_arrays(tmp_path)
    from_arrays(tmp_path, {"train_images": images(9, seed=5)})
    assert np.array_equal(pixels(found.train, 3), images(9)[3])


def test_grey_pictures_need_no_channel_axis(tmp_path):
    train, test = images(9, shape=(6, 5)), images(6, shape=(6, 5))
    assert from_arrays(tmp_path, {"train_images": train, "test_images": test}).input_shape == (1, 6, 5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8])
def test_features_are_taken_as_they_are(tmp_path, dtype):
    train, test = (images(n, shape=(7,)).astype(dtype) for n in (9, 6))
    found = from_arrays(tmp_path, {"train_images": train, "test_images": test})
    assert found.input_shape == (7,)
    assert isinstance(found.train.images, Tensor)
    assert found.train.images.dtype == torch.float32
    assert np.array_equal(found.train.images, train)
    np.testing.assert_allclose(found.mean, train.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.std, train.std(0), rtol=1e-6)


def test_labels_can_be_names(tmp_path):
    found = from_arrays(tmp_path, {"train_labels": list("bacabcabc"), "test_labels": list("ccbbaa")})
    assert found.classes == ("a", "b", "c")
    assert found.train.labels[:4].tolist() == [1, 0, 2, 0]
    assert found.test.labels.tolist() == [2, 2, 1, 1, 0, 0]
    given = {"train_labels": list("bacabcabc"), "test_labels": list("ccbbaa"), "names": list("cba")}
    ordered = from_arrays(tmp_path, given)
    assert ordered.classes == ("c", "b", "a")
    assert ordered.test.labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("key", ["names", "classes"])
def test_classes_can_be_named(tmp_path, key):
    assert from_arrays(tmp_path, {key: ["x", "y", "z"]}).classes == ("x", "y", "z")
    assert from_arrays(tmp_path).classes == ("0", "1", "2")


def test_other_columns_are_attributes_and_decoded(tmp_path):
    columns = {"train_age": np.arange(9) % 2, "test_age": np.arange(6) % 2, "age_names": ["young", "old"]}
    found = from_arrays(tmp_path, {**columns, "test_site": list("abcabc"), "train_box": np.zeros((9, 4))})
    assert found.train.groups["age"].tolist()[:3] == ["young", "old", "young"]
    assert {*found.train.groups} == {"age"}
    assert {*found.test.groups} == {"age", "site"}
    assert found.test.groups["site"].tolist() == list("abcabc")


def test_a_column_can_be_predicted(tmp_path):
    given = {
        "train_labels": None, "test_labels": None,
        "train_sex": np.arange(9) % 2, "test_sex": np.arange(6) % 2, "sex_names": ["f", "m"],
        "train_age": np.arange(9), "test_age": np.arange(6),
    }  # fmt: skip
    found = from_arrays(tmp_path, given, "#sex")
    assert found.classes == ("f", "m")
    assert found.test.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert {*found.test.groups} == {"age"}
    with pytest.raises(ValueError, match=r"\['train_labels', 'test_labels'\] .*To predict age or sex, write arrays:"):
        from_arrays(tmp_path, given)


def test_ids_are_given_or_by_position(tmp_path):
    assert from_arrays(tmp_path).test.ids.tolist() == [f"test-{i:05d}" for i in range(6)]
    assert from_arrays(tmp_path, {"train_ids": np.arange(100, 109)}).train.ids[0] == "100"


def test_ids_stay_with_their_examples(tmp_path):
    order = np.random.default_rng(0).permutation(9)[:7]
    labels, ids = np.arange(9) % 3, np.array([f"id{i}" for i in range(9)])
    whole = from_arrays(tmp_path, {"train_ids": ids})
    given = {"train_images": images(9)[order], "train_labels": labels[order], "train_ids": ids[order]}
    for split in (whole.train, from_arrays(tmp_path, given).train):
        for position, name in enumerate(split.ids):
            assert np.array_equal(pixels(split, position), images(9)[int(name.removeprefix("id"))])


BAD_ARRAYS = {
    "missing": ({"test_images": None}, r"the arrays \['test_images'\] in .*set.npz, but it has \['test_labels'"),
    "label too large": (
        {"names": ["a", "b", "c"], "test_labels": [0, 1, 2, 3, 0, 1]},
        r"labels in \[0, 3\) in test of 'arrays:set.npz', but 1 lie outside \(value 3 at 'test-00003'\)",
    ),
    "negative label": ({"train_labels": [0, 1, 2, -1, 0, 1, 2, 0, 1]}, r"value -1 at 'train-00003'"),
    "float labels": ({"test_labels": np.arange(6.0)}, "`test_labels` to hold class indices or class names, .* float64"),
    "unknown label": (
        {"train_labels": list("abcabcabc"), "test_labels": list("abcabd")},
        r"`test_labels` to hold names out of \['a', 'b', 'c'\], but got \['d'\]",
    ),
    "labels too few": ({"test_labels": [0, 1]}, r"`labels` to hold one value for each of the 6 images .*shape \(2,\)"),
    "labels in columns": ({"test_labels": np.zeros((6, 1), int)}, r"`labels` .*shape \(6, 1\)"),
    "attribute too short": ({"test_age": [1, 2]}, r"`age` to hold one value for each of the 6 images .*shape \(2,\)"),
    "attribute without name": (
        {"train_age": np.full(9, 2), "age_names": ["x", "y"]}, r"`train_age` to hold indices in \[0, 2\)"
    ),
    "duplicate ids": (
        {"train_ids": list("aabcdefgb")}, r"unique ids in train of .*, but 2 come more than once: \['a', 'b'\]"
    ),
    "one class": ({"train_labels": np.zeros(9, int), "test_labels": np.zeros(6, int)}, r"at least 2 classes .*\['0'\]"),
    "a class without training": (
        {"train_labels": np.arange(9) % 2}, r"training examples of every class .* have none: \['2'\] \(1 in all\)"
    ),
    "same names": ({"names": ["x", "y", "x"]}, r"distinct classes .*more than once: \['x'\]"),
    "names in a table": ({"names": np.array([["x", "y"]])}, r"`names` to be a list of class names"),
    "other shapes": ({"test_images": images(6, shape=(6, 6, 3))}, r"\(3, 6, 5\) in train and \(3, 6, 6\) in test"),
    "five axes": ({"test_images": np.zeros((6, 1, 2, 2, 2), np.uint8)}, r"`test_images` .* shape .*\(6, 1, 2, 2, 2\)"),
    "one axis": ({"test_images": np.zeros(6, np.uint8)}, r"`test_images` to have the shape"),
    "unclear channels": ({"test_images": images(6, shape=(5, 6, 5))}, r"channels of `test_images` .*\(6, 5, 6, 5\)"),
    "wide integers": ({"test_images": images(6).astype(int)}, r"`test_images` to be uint8 or float, but got int64"),
    "no examples": ({"test_images": images(0), "test_labels": np.zeros(0, int)}, r"at least 1 example in test of"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused(tmp_path, case):
    changes, message = BAD_ARRAYS[case]
    with pytest.raises(ValueError, match=message):
        from_arrays(tmp_path, changes)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["train", "test"])
def test_inputs_that_are_not_finite_are_refused(tmp_path, part, value):
    given = {"train_images": images(9).astype(np.float32), "test_images": images(6).astype(np.float32)}
    given[f"{part}_images"][4, 2, 1, 0] = value
    with pytest.raises(ValueError, match=rf"finite inputs in {part} of .*, but 1 examples .*'{part}-00004'"):
        from_arrays(tmp_path, given)


def test_a_missing_file_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.npz does not exist.*REMNANT_DATA"):
        load("arrays:no.npz", tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an archive", pickle.dumps([1])])
def test_files_that_are_no_archives_are_refused(tmp_path, content):
    (tmp_path / "set.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"Cannot read .*set\.npz as an \.npz file of numbers and text"):
        load("arrays:set.npz", tmp_path)


def test_objects_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.savez(tmp_path / "set.npz", **arrays(train_x=np.array([Trap()], dtype=object)))  # pyright: ignore
    with pytest.raises(ValueError, match="Cannot read"):
        load("arrays:set.npz", tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "one.npy", images(3))
    with pytest.raises(ValueError, match="it holds a single array"):
        load("arrays:one.npy", tmp_path)


# Folders


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("limit", [0, image_folders.IN_MEMORY])
def test_pictures_are_the_same_in_memory_and_on_disk(tmp_path, monkeypatch, limit, mode):
    folders(tmp_path / "pets", mode=mode)
    monkeypatch.setattr(image_folders, "IN_MEMORY", limit)
    pets = load("imagefolder:pets", tmp_path)
    assert isinstance(pets.train.images, Tensor) == (limit > 0)
    assert pets.input_shape == (3 if mode == "RGB" else 1, 8, 8)
    assert pets.classes == ("ant", "bee")
    assert pets.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert pets.train.ids[4] == "bee/1.png"
    with Image.open(tmp_path / "pets/train/bee/1.png") as image:
        pixels = np.asarray(image).reshape(8, 8, -1)
    batch = take(pets.train.images, np.array([4, 0, 4]))
    assert batch.dtype == torch.uint8
    assert np.array_equal(batch[0].permute(1, 2, 0), pixels)
    assert torch.equal(batch[0], batch[2])
    exact = load("imagefolder:pets", tmp_path).train.images
    everything = take(exact, np.arange(6)).double() / 255
    np.testing.assert_allclose(pets.mean, everything.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(pets.std, everything.std((0, 2, 3), correction=0), rtol=1e-6)


def test_a_new_picture_changes_no_other_id(tmp_path):
    folders(tmp_path)
    before = load("imagefolder:.", tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "train/ant/00.png")
    after = load("imagefolder:.", tmp_path)
    assert {*before.train.ids} < {*after.train.ids}
    assert before.fingerprint != after.fingerprint


def test_pictures_on_disk_have_a_fingerprint_of_names_and_sizes(tmp_path, monkeypatch):
    monkeypatch.setattr(image_folders, "IN_MEMORY", 0)
    folders(tmp_path)
    first = load("imagefolder:.", tmp_path).fingerprint
    assert first == load("imagefolder:.", tmp_path).fingerprint
    assert first != load("imagefolder:.#8", tmp_path).fingerprint
    Image.new("RGB", (8, 8)).save(tmp_path / "train/ant/0.png")
    assert first != load("imagefolder:.", tmp_path).fingerprint


def test_pictures_of_several_sizes_need_one_to_be_named(tmp_path):
    folders(tmp_path, sizes=((8, 8), (12, 9)))
    with pytest.raises(
        ValueError, match=r"images of one size, but .*1\.png is 12x9 and the first is 8x8.*imagefolder:DIR#64"
    ):
        load("imagefolder:.", tmp_path)
    assert load("imagefolder:.#16", tmp_path).input_shape == (3, 16, 16)
    with pytest.raises(ValueError, match=r"whole number of pixels after '#' .*'big'"):
        load("imagefolder:.#big", tmp_path)


def test_val_stands_in_for_test(tmp_path):
    folders(tmp_path)
    (tmp_path / "test").rename(tmp_path / "val")
    assert len(load("imagefolder:.", tmp_path).test) == 4


def test_metadata_become_attributes(tmp_path):
    folders(tmp_path)
    names = ["ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png"]
    rows = [f"{name},{light}" for name, light in zip(reversed(names), "wxyz", strict=True)]
    (tmp_path / "test" / "metadata.csv").write_text("\n".join(["file_name,light", *rows]))
    pets = load("imagefolder:.", tmp_path)
    assert pets.test.groups["light"].tolist() == list("zyxw")
    assert pets.train.groups == {}
    (tmp_path / "test" / "metadata.csv").write_text("\n".join(["file_name,light", *rows[1:]]))
    with pytest.raises(
        ValueError, match=r"a row for every image in .*metadata\.csv, but \['bee/1\.png'\] \(1 in all\)"
    ):
        load("imagefolder:.", tmp_path)
    (tmp_path / "test" / "metadata.csv").write_text("file,light\n")
    with pytest.raises(ValueError, match="a column `file_name`"):
        load("imagefolder:.", tmp_path)


def test_bad_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folders train and test \(or val\) of 'imagefolder:none'"):
        load("imagefolder:none", tmp_path)
    folders(tmp_path)
    (tmp_path / "test" / "cat").mkdir()
    with pytest.raises(ValueError, match=r"it also has \['cat'\]"):
        load("imagefolder:.", tmp_path)
    (tmp_path / "test" / "cat").rmdir()
    (tmp_path / "train" / "cow").mkdir()
    with pytest.raises(ValueError, match=r"training examples of every class .*\['cow'\]"):
        load("imagefolder:.", tmp_path)
    empty = tmp_path / "empty"
    (empty / "train" / "ant").mkdir(parents=True)
    (empty / "test" / "ant").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"Expected images in .*train/CLASS/, but found none"):
        load("imagefolder:empty", tmp_path)


@pytest.mark.parametrize("damage", ["not a picture", "cut off", "16 bit"])
def test_damaged_pictures_are_named(tmp_path, damage):
    folders(tmp_path)
    path = tmp_path / "train" / "bee" / "1.png"
    if damage == "16 bit":
        Image.fromarray(np.zeros((8, 8), np.uint16)).save(path)
    else:
        path.write_bytes(b"text" if damage == "not a picture" else path.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"bee/1\.png"):
        load("imagefolder:.", tmp_path)


# Moments and fingerprints


@pytest.mark.parametrize("number", [9, 300, 1000])
def test_moments_are_those_of_numpy(tmp_path, number):
    train = images(number)
    labels = np.arange(number) % 3
    for pictures in (train, train.astype(np.float32) / 255):
        found = from_arrays(tmp_path, {"train_images": pictures, "train_labels": labels, "test_images": pictures[:6]})
        np.testing.assert_allclose(found.mean, (train / 255).mean((0, 1, 2)), rtol=1e-6)
        np.testing.assert_allclose(found.std, (train / 255).std((0, 1, 2)), rtol=1e-6)


def test_moments_survive_large_means(tmp_path):
    features = np.random.default_rng(0).normal(1e5, 1.0, (600, 2)).astype(np.float32)
    labels = np.arange(600) % 3
    found = from_arrays(tmp_path, {"train_images": features, "train_labels": labels, "test_images": features[:6]})
    np.testing.assert_allclose(found.std, features.astype(np.float64).std(0), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_constant_channels_have_std_one(tmp_path, dtype):
    train, test = images(9).astype(dtype), images(6).astype(dtype)
    train[..., 1] = 77
    found = from_arrays(tmp_path, {"train_images": train, "test_images": test})
    assert found.std[1] == 1
    assert found.std[0] < found.std[1] if dtype is np.uint8 else found.std[0] > 1
    assert found.mean[1] == pytest.approx(77 / 255 if dtype is np.uint8 else 77)


CHANGES = {
    "an image": {"test_images": images(6, seed=2)},
    "a label": {"train_labels": [2, 1, 2, 0, 1, 2, 0, 1, 2]},
    "an id": {"test_ids": list("abcdef")},
    "a class": {"names": ["0", "1", "two"]},
    "the order": {"train_images": images(9)[::-1], "train_labels": (np.arange(9) % 3)[::-1]},
    "the shape": {"train_images": images(9).reshape(9, 5, 6, 3), "test_images": images(6, seed=1).reshape(6, 5, 6, 3)},
    "the type": {"train_images": images(9).astype(np.float32), "test_images": images(6, seed=1).astype(np.float32)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_fingerprint_shows_a_change_of(tmp_path, change):
    assert from_arrays(tmp_path).fingerprint != from_arrays(tmp_path, CHANGES[change]).fingerprint


def test_attributes_do_not_change_the_fingerprint(tmp_path):
    assert from_arrays(tmp_path).fingerprint == from_arrays(tmp_path, {"test_age": np.arange(6)}).fingerprint


def test_take_gives_the_images_asked_for(tmp_path):
    found = from_arrays(tmp_path)
    indices = [5, 5, 0]
    expected = images(9)[indices]
    for way in (indices, np.array(indices), torch.tensor(indices)):
        assert np.array_equal(take(found.train.images, way).permute(0, 2, 3, 1), expected)


# Real data


@pytest.mark.data
def test_cifar10_has_its_published_moments():
    """The mean and std that are in everyone's code, to more digits: computed from the official binary files."""
    root = os.environ.get("REMNANT_DATA")
    if not root or not Path(root, "cifar10.npz").exists():
        pytest.skip("needs cifar10.npz in the folder REMNANT_DATA")
    found = load("arrays:cifar10.npz")
    assert (len(found.train), len(found.test)) == (50_000, 10_000)
    np.testing.assert_allclose(found.mean, [0.49139968, 0.48215841, 0.44653091], atol=1e-7)
    np.testing.assert_allclose(found.std, [0.24703223, 0.24348513, 0.26158784], atol=1e-7)
    assert found.train.labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert found.classes[6] == "frog"
