import itertools

import numpy as np
import pytest

from remnant.codecs import Jpeg, Png, Raw, ZfpPrecision, Zstd
from remnant.codecs.container import open_container
from remnant.codecs.container_writer import Examples, create, write
from tests.codecs.crops import crops


def test_ids_count_within_a_split_by_default(tmp_path):
    images = crops(5)
    write(tmp_path / "a", [Examples(images[:3], split="train"), Examples(images[:2], split="test"),
                           Examples(images[3:], split="train")], Raw())  # fmt: skip
    container = open_container(tmp_path / "a")
    assert container.ids.tolist() == ["train-00000", "train-00001", "train-00002", "test-00000", "test-00001",
                                      "train-00003", "train-00004"]  # fmt: skip
    np.testing.assert_array_equal(container.split("train").batch(np.arange(5)), images)
    assert container.labels is None
    write(tmp_path / "b", [Examples(images)], Raw())
    assert open_container(tmp_path / "b").ids[0] == "example-00000"


def test_how_examples_are_handed_over_does_not_change_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("remnant.codecs.container_writer.BLOCK_EXAMPLES", 6)
    images = crops(20)
    for name, cuts in (("once", [0, 20]), ("often", [0, 1, 9, 10, 20])):
        with create(tmp_path / name, Zstd(images=4), workers=len(cuts)) as writer:
            for start, stop in itertools.pairwise(cuts):
                writer.append(Examples(images[start:stop]))
            assert writer.examples == 20
    assert (tmp_path / "once").read_bytes() == (tmp_path / "often").read_bytes()
    np.testing.assert_array_equal(open_container(tmp_path / "once").batch(np.arange(20)), images)


def test_progress_tells_how_many_are_written_of_those_received(tmp_path, monkeypatch):
    monkeypatch.setattr("remnant.codecs.container_writer.BLOCK_EXAMPLES", 4)
    calls = []
    write(tmp_path / "a", [Examples(crops(10))], Raw(), progress=lambda done, of: calls.append((done, of)))
    assert calls == [(4, 10), (8, 10), (10, 10)]


def test_an_error_leaves_no_file_and_the_old_one_as_it_was(tmp_path):
    path = tmp_path / "a"
    write(path, [Examples(crops(3))], Raw())
    before = path.read_bytes()
    with pytest.raises(ValueError, match="channels for 'jpeg'"):
        write(path, [Examples(crops(3, channels=2))], Jpeg())

    def interrupted():
        yield Examples(crops(3))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, interrupted(), Raw())
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_a_refused_append_leaves_the_others(tmp_path):
    with create(tmp_path / "a", Raw()) as writer:
        writer.append(Examples(crops(3), split="train"))
        with pytest.raises(
            ValueError, match=r"images of the shape \(32, 32, 3\) like those before, but got \(8, 8, 3\)"
        ):
            writer.append(Examples(crops(3, 8, 8), split="train"))
        writer.append(Examples(crops(2), split="train"))
    assert open_container(tmp_path / "a").ids[-1] == "train-00004"


IMAGES = crops(3)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (Examples(IMAGES / 255), "uint8 with values in 0..255"),
        (Examples(IMAGES, np.array([0, 1])), r"`labels` to be 3 class indices, got int64 \(2,\)"),
        (Examples(IMAGES, np.array([0.0, 1.0, 0.0])), "class indices, got float64"),
        (Examples(IMAGES, np.array([0, 1, 2])), r"`labels` in \[0, 2\), but got 2"),
        (Examples(IMAGES, np.array([0, 1, -1])), r"`labels` in \[0, 2\), but got -1"),
        (Examples(IMAGES, ids=np.array(["a", "b"])), "`ids` to name each of the 3 images, but got 2"),
        (Examples(IMAGES, ids=np.array(["a", "b", "a"])), "unique ids in the split '', but 'a' comes more than once"),
        (Examples(IMAGES, ids=np.array(["a", "b\0c", "d"])), "`ids` without the zero character"),
        (Examples(IMAGES, groups={"x": np.array(["a", "b\0c", "d"])}), "`x` without the zero character"),
        (Examples(IMAGES, groups={"x": np.zeros(2)}), "one value of 'x' for each of the 3 images"),
        (Examples(IMAGES, groups={"../x": np.zeros(3)}), "columns to be printable text without slashes"),
        (Examples(IMAGES, groups={"x": np.full(3, 2**63, np.uint64)}), r"below 2\*\*63 in 'x'"),
    ],
)
def test_examples_that_do_not_fit_together_are_refused(examples, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "a", [examples], Png(), classes=["a", "b"])
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("later", "message"),
    [
        (Examples(IMAGES, None, np.arange(3), {"x": np.zeros(3)}), "`labels` for all examples or for none"),
        (Examples(IMAGES, np.zeros(3, int), np.arange(3)), r"columns \{'x': 'float64'\} like before, but got \{\}"),
        (
            Examples(IMAGES, np.zeros(3, int), np.arange(3), {"x": np.zeros(3, int)}),
            "like before, but got {'x': 'int64'}",
        ),
        (Examples(IMAGES, np.zeros(3, int), np.array([7, 1, 2]), {"x": np.zeros(3)}), "unique ids .* '7' comes more"),
    ],
)
def test_examples_unlike_those_before_are_refused(later, message, tmp_path):
    with create(tmp_path / "a", Png()) as writer:
        writer.append(Examples(IMAGES, np.zeros(3, int), np.array([7, 8, 9]), {"x": np.zeros(3)}))
        with pytest.raises(ValueError, match=message):
            writer.append(later)


def test_nothing_and_too_much_text_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="at least 1 example"):
        write(tmp_path / "a", [], Raw())
    monkeypatch.setattr("remnant.codecs.container_format.LARGEST_TABLE", 1000)
    with pytest.raises(ValueError, match="of 3 examples to take at most 1000 bytes.*Shorten"):
        write(tmp_path / "a", [Examples(IMAGES, ids=np.array(["a" * 2000, "b", "c"]))], Raw())


def test_large_images_come_in_small_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("remnant.codecs.container_writer.BLOCK_BYTES", 5 * 3072)
    calls = []
    write(tmp_path / "a", [Examples(crops(12))], ZfpPrecision(8, layout="batch"),
          progress=lambda done, of: calls.append(done))  # fmt: skip
    assert calls == [4, 8, 12]
