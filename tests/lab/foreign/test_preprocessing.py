"""From pictures to inputs, beside torchvision and Pillow."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from remnant.lab.data import load
from remnant.lab.foreign.evaluation_sets import moments
from remnant.lab.foreign.preprocessing import IMAGENET, Preprocessing, apply, parse_preprocessing
from remnant.lab.train import normalize
from tests.lab.foreign.networks import tensor

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((40, 51), (33, 32), (300, 261), (20, 77))]
BATCH = torch.from_numpy(RNG.integers(0, 256, (5, 3, 32, 32), dtype=np.uint8))

steps = st.builds(
    Preprocessing,
    resize=st.none() | st.tuples(st.integers(1, 999)) | st.tuples(st.integers(1, 999), st.integers(1, 999)),
    crop=st.none() | st.tuples(st.integers(1, 999), st.integers(1, 999)),
    mean=st.lists(st.floats(0, 255, width=32), min_size=0, max_size=3).map(tuple),
    std=st.lists(st.floats(0.0625, 255, width=32), min_size=0, max_size=3).map(tuple),
    layout=st.sampled_from(["NCHW", "NHWC"]),
    range=st.sampled_from(["0..1", "0..255"]),
    channels=st.sampled_from(["same", "RGB", "BGR", "grey"]),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
)


@given(steps)
def test_a_preprocessing_is_written_as_the_text_that_gives_it(value):
    found = parse_preprocessing(str(value))
    for name in ("mean", "std"):  # text has 9 digits, which is exact for float32
        a, b = getattr(found, name), getattr(value, name)
        assert np.array_equal(np.float32(a), np.float32(b))
    same = {"mean": (), "std": ()}
    assert Preprocessing(**{**vars(found), **same}) == Preprocessing(**{**vars(value), **same})


def test_the_data_sets_own_preprocessing_is_what_remnants_models_see():
    dataset = load("digits")
    images = tensor(dataset.test.images)[:50]
    found = apply(parse_preprocessing("dataset", dataset=moments(dataset)), images)
    assert torch.equal(found, normalize(dataset, images))
    assert torch.equal(apply(parse_preprocessing(str(moments(dataset))), images), found)


def test_imagenet_is_torchvisions_reference_transform():
    """Oracle: torchvision 0.29 on Pillow images: Resize(256), CenterCrop(224), ToTensor, Normalize."""
    from torchvision.transforms import v2 as t

    oracle = t.Compose(
        [t.Resize(256), t.CenterCrop(224), t.PILToTensor(), t.ToDtype(torch.float32, scale=True),
         t.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )  # fmt: skip
    wanted = torch.stack([oracle(Image.fromarray(picture)) for picture in PICTURES])
    torch.testing.assert_close(apply(IMAGENET, PICTURES), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (31, 30), (45, 33), (64, 64)])
def test_crops_of_any_size_are_torchvisions(size):
    from torchvision.transforms.v2.functional import center_crop

    found = apply(Preprocessing(crop=size, range="0..255"), BATCH)
    assert torch.equal(found, center_crop(BATCH, list(size)).float())


def test_batches_in_memory_are_resized_like_pictures_from_files():
    both = Preprocessing(resize=(20, 24), interpolation="bicubic")
    assert torch.equal(apply(both, BATCH), apply(both, list(BATCH.permute(0, 2, 3, 1).numpy())))


def test_colours():
    scaled = BATCH / 255
    assert torch.equal(apply(Preprocessing(), BATCH), BATCH.float() * (1 / torch.tensor(255.0)))
    torch.testing.assert_close(apply(Preprocessing(channels="BGR"), BATCH), scaled[:, [2, 1, 0]])
    torch.testing.assert_close(apply(Preprocessing(layout="NHWC"), BATCH), scaled.permute(0, 2, 3, 1))
    grey = apply(Preprocessing(channels="grey", range="0..255"), BATCH)
    pillow = [np.asarray(Image.fromarray(p).convert("L")) for p in BATCH.permute(0, 2, 3, 1).numpy()]
    assert np.array_equal(grey[:, 0].numpy(), np.stack(pillow))
    three = apply(Preprocessing(channels="RGB"), BATCH[:, :1])
    torch.testing.assert_close(three, scaled[:, :1].expand(-1, 3, -1, -1))


def test_inputs_are_not_changed_and_features_are_taken_as_they_are():
    features = torch.randn(4, 7)
    before = features.clone()
    found = apply(Preprocessing(mean=(1.0,), std=(2.0,)), features)
    torch.testing.assert_close(found, (before - 1) / 2)
    assert torch.equal(features, before)


def test_presets_are_overridden_by_what_follows():
    found = parse_preprocessing("imagenet,channels=BGR,mean=0.1,0.2,0.3,size=64x32")
    assert found.channels == "BGR"
    assert found.mean == (0.1, 0.2, 0.3)
    assert found.resize == (64, 32)
    assert found.std == IMAGENET.std


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imagnet", "Presets are 'dataset'.*Keys are"),
        ("size=224,imagenet", "but got size='224,imagenet'"),
        ("scale=2", "known key in `preprocessing`, but got 'scale'"),
        ("mean=a", "Expected mean=0.5 or"),
        ("mean=", "Expected mean=0.5 or"),
        ("resize=1x2x3", "Expected resize=256"),
        ("resize=0", "1 to 16384 pixels"),
        ("std=0", "Expected `std` other than 0"),
        ("layout=HWC", "Expected `layout` to be one of"),
        ("channels=RGBA", "Expected `channels` to be one of"),
        ("dataset", "the data have no training pictures"),
        ("model", "the model's files do not say"),
    ],
)
def test_bad_texts_list_presets_and_keys(text, message):
    with pytest.raises(ValueError, match=message):
        parse_preprocessing(text)


@pytest.mark.parametrize(
    ("steps", "pictures", "message"),
    [
        (Preprocessing(), PICTURES, "still differ after preprocessing"),
        (Preprocessing(mean=(0.1, 0.2)), BATCH, "each of the 3 channels, but got 2"),
        (Preprocessing(resize=(4,)), torch.randn(2, 5), "pictures of uint8 to resize"),
        (Preprocessing(channels="RGB"), BATCH[:, :2], "1 or 3 channels"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(steps, pictures, message):
    with pytest.raises(ValueError, match=message):
        apply(steps, pictures)
