import base64
import io

import numpy as np
import pytest
from PIL import Image

from remnant.finding import Exhibit, Finding
from remnant.report.galleries import MOST_EXHIBITS, data_uri, galleries


def finding(**titles):
    return Finding("exemplars", "?", {}, (), {}, galleries=titles)


def exhibits(num, split="test"):
    return tuple(Exhibit(split, f"{split}-{i}", (f"true: {i}", "no term")) for i in range(num))


def thumbnails(split, ids):
    return {name: np.full((8, 8), int(name.split("-")[1]), np.uint8) for name in ids}


def decoded(source):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


@pytest.mark.parametrize("shape", [(8, 8), (8, 6, 1), (28, 28, 3), (64, 64, 4)])
def test_small_images_are_embedded_without_loss(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    source, width, height = data_uri(image)
    assert source.startswith("data:image/png;base64,")
    assert (height, width) == shape[:2]
    np.testing.assert_array_equal(decoded(source), image.reshape(decoded(source).shape))


def test_large_images_are_shrunk():
    source, width, height = data_uri(np.zeros((224, 448, 3), np.uint8))
    assert source.startswith("data:image/webp;base64,")
    assert (width, height) == (160, 80)


@pytest.mark.parametrize("image", [np.zeros((8, 8)), np.zeros((3, 8, 8), np.uint8), np.zeros((0, 8), np.uint8)])
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match="Expected `thumbnails` to give uint8 images"):
        data_uri(image)


def test_small_images_are_shown_enlarged_by_a_whole_number():
    plate = galleries([finding(a=exhibits(1))], thumbnails, budget=10_000)["exemplars"][0].rows[0][0]
    assert (plate.width, plate.height, plate.pixelated) == (96, 96, True)
    assert plate.caption == (("true", "0"), ("", "no term"))


def test_a_budget_gives_every_gallery_its_first_images():
    found = finding(a=exhibits(10), b=exhibits(10, "train"))
    size = len(data_uri(np.full((8, 8), 3, np.uint8))[0])
    shown = galleries([found], thumbnails, budget=5 * size)
    counts = [sum(bool(row[0].source) for row in gallery.rows) for gallery in shown["exemplars"]]
    assert counts in ([3, 2], [2, 3])
    assert sum(gallery.left_out for gallery in shown["exemplars"]) == 15
    assert all(row[0].caption for gallery in shown["exemplars"] for row in gallery.rows)


def test_an_image_that_is_shown_twice_counts_twice():
    size = len(data_uri(np.zeros((8, 8), np.uint8))[0])
    found = finding(a=exhibits(1), b=exhibits(1))
    for budget, left_out in ((2 * size - 1, 1), (2 * size, 0)):
        shown = galleries([found], thumbnails, budget=budget)["exemplars"]
        assert [gallery.left_out for gallery in shown] == [left_out, left_out]


def test_pairs_stand_side_by_side():
    pair = Exhibit("test", "test-1", ("a: b",), 0.5, Exhibit("train", "train-2", ("c: d",)))
    gallery = galleries([finding(pairs=(pair,))], thumbnails, budget=10_000)["exemplars"][0]
    assert gallery.paired
    assert [plate.example for plate in gallery.rows[0]] == ["test-1", "train-2"]
    assert all(plate.source for plate in gallery.rows[0])


def test_without_images_there_are_captions():
    (gallery,) = galleries([finding(a=exhibits(3), empty=())], None, budget=0)["exemplars"]
    assert not gallery.has_images
    assert len(gallery.rows) == 3


def test_a_long_gallery_is_cut_and_says_so():
    (gallery,) = galleries([finding(a=exhibits(MOST_EXHIBITS + 5))], None, budget=0)["exemplars"]
    assert (len(gallery.rows), gallery.hidden) == (MOST_EXHIBITS, 5)


def test_a_picture_of_its_own_takes_the_place_of_the_examples():
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 48), 7, np.uint8)).save(buffer, "PNG")
    own = Exhibit("test", "test-1", ("maps",), image=base64.b64encode(buffer.getvalue()).decode())
    found = galleries([finding(maps=(own, *exhibits(1)))], thumbnails, budget=10_000)["exemplars"][0]
    plates = [row[0] for row in found.rows]
    assert (plates[0].width, plates[0].height, plates[0].pixelated) == (288, 96, True)
    np.testing.assert_array_equal(decoded(plates[0].source), np.full((16, 48), 7, np.uint8))
    assert plates[1].source
    assert not galleries([finding(maps=(own, *exhibits(1)))], thumbnails, budget=1)["exemplars"][0].rows[1][0].source


@pytest.mark.parametrize("image", ["no base64!", base64.b64encode(b"GIF89a, not a PNG at all").decode()])
def test_a_picture_of_its_own_is_a_png(image):
    with pytest.raises(ValueError, match="Expected `image` of an exhibit"):
        galleries([finding(maps=(Exhibit("test", "a", (), image=image),))], None, budget=1)
