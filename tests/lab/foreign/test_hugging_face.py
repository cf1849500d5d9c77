"""Classifiers and tokenizers of Hugging Face transformers, from folders."""

import json
import shutil

import numpy as np
import pytest
import torch

from remnant.lab.foreign import of_arrays, predict
from remnant.lab.foreign.hugging_face import _pictures, open_hugging_face
from remnant.lab.foreign.preprocessing import apply
from tests.lab.foreign.networks import scores

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a", "##s"]
TEXTS = ["a good film", "bad films a a a a", "unknown words", "good", "a bad film " * 40]


@pytest.fixture(scope="module", autouse=True)
def quiet():
    from transformers.utils import logging

    logging.disable_progress_bar()


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf") / "bert"
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32, id2label={0: "neg", 1: "pos"}, label2id={"neg": 0, "pos": 1},
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).eval().save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def picture_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf") / "vit"
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8,
        num_labels=3,
    )  # fmt: skip
    transformers.ViTForImageClassification(config).eval().save_pretrained(folder)
    sizes = {"height": 16, "width": 16}
    transformers.ViTImageProcessor(size=sizes, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4]).save_pretrained(
        folder
    )
    return folder


def test_a_text_classifier_answers_as_when_called_one_by_one(text_model):
    """Oracle: transformers' own tokenizer and model, one text at a time, without padding."""
    data = of_arrays(TEXTS, np.array([1, 0, 1, 1, 0]), classes=["pos", "neg"])
    found = predict(f"hf:{text_model}", data, batch_size=2)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(text_model).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(text_model)
    with torch.no_grad():
        wanted = [
            model(**tokens(t, truncation=True, max_length=32, return_tensors="pt")).logits[0].tolist() for t in TEXTS
        ]
    np.testing.assert_allclose(scores(found), np.array(wanted)[:, ::-1], atol=1e-5)
    assert found.classes == ("pos", "neg")
    assert "reordered by name" in found.source["notes"][0]
    assert found.source["preprocessing"] == "tokenizer=bert,max_length=32"
    assert found.text is not None
    assert found.text.tolist() == TEXTS
    names = {entry["name"] for entry in found.source["model"]["files"]}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= names
    assert found.source["bytes"] == (text_model / "model.safetensors").stat().st_size


def test_a_tokenizer_may_stand_elsewhere_and_cut_earlier(text_model, tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(text_model / name, tmp_path / name)
    data = of_arrays(TEXTS, np.array([1, 0, 1, 1, 0]), classes=["neg", "pos"])
    stated = predict(f"hf:{tmp_path}", data, preprocessing=f"tokenizer={text_model}")
    assert stated.source["preprocessing"] == "tokenizer=bert,max_length=32"
    assert np.allclose(scores(stated), scores(predict(f"hf:{text_model}", data)), atol=1e-6)
    cut = predict(f"hf:{text_model}", data, preprocessing=f"tokenizer={text_model},max_length=4")
    assert not np.allclose(scores(cut)[1], scores(stated)[1], atol=1e-6)
    for text, message in {
        "tokenizer=nowhere": "does not exist",
        "tokenizer=a,max_length=x": "Expected 'tokenizer=DIR'",
        "imagenet": "Expected `preprocessing` such as 'tokenizer=DIR' for texts",
        f"tokenizer={tmp_path}": "Expected a tokenizer in .* holds none of",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            predict(f"hf:{tmp_path}", data, preprocessing=text)


def test_a_text_model_in_onnx_takes_the_tokenizer_beside_it(text_model):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["seen"]),
        helper.make_node("Cast", ["seen"], ["f"], to=kind.FLOAT),
        helper.make_node("ReduceSum", ["f", "axes"], ["rows"], keepdims=1),
        helper.make_node("Concat", ["rows", "rows"], ["logits"], axis=1),
    ]
    axes = onnx.numpy_helper.from_array(np.array([1], np.int64), "axes")
    inputs = [helper.make_tensor_value_info(n, kind.INT64, ["n", "t"]) for n in ("input_ids", "attention_mask")]
    outputs = [helper.make_tensor_value_info("logits", kind.FLOAT, ["n", 2])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [axes])
    path = text_model / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    found = predict(path, of_arrays(TEXTS[:4], np.array([1, 0, 1, 1]), classes=["neg", "pos"]), batch_size=3)
    tokens = transformers.AutoTokenizer.from_pretrained(text_model)
    wanted = [sum(tokens(text)["input_ids"]) for text in TEXTS[:4]]
    assert scores(found)[:, 0].tolist() == wanted
    path.unlink()


def test_a_picture_classifier_answers_as_its_own_processor_and_model(picture_model):
    """Oracle: AutoImageProcessor and AutoModelForImageClassification; the processor resizes tensors, we with Pillow."""
    images = np.random.default_rng(0).integers(0, 256, (4, 20, 24, 3), dtype=np.uint8)
    images = np.kron(images[:, ::5, ::6], np.ones((1, 5, 6, 1), np.uint8))
    found = predict(f"hf:{picture_model}", of_arrays(images))
    processor = transformers.AutoImageProcessor.from_pretrained(picture_model)
    model = transformers.AutoModelForImageClassification.from_pretrained(picture_model).eval()
    inputs = processor(list(images), return_tensors="pt")["pixel_values"]
    steps = _pictures(picture_model)
    assert steps is not None
    ours = apply(steps, torch.from_numpy(images).permute(0, 3, 1, 2))
    assert (ours - inputs).abs().max() < 2 / 255 / 0.2  # rounding to whole levels after the resize
    with torch.no_grad():
        np.testing.assert_allclose(scores(found), model(inputs).logits.numpy(), atol=0.02)
    assert found.source["preprocessing"] == "resize=16x16,mean=0.5,0.4,0.3,std=0.2,0.3,0.4,channels=RGB"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"size": 224, "resample": 3, "do_normalize": False},
         "resize=224x224,channels=RGB,interpolation=bicubic"),
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 200},
          "image_mean": [0.5], "image_std": [0.5]}, "resize=256,crop=224x200,mean=0.5,std=0.5,channels=RGB"),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "image_mean": [0.5], "image_std": [0.5]},
         "resize=256,crop=224x224,mean=0.5,std=0.5,channels=RGB"),
        ({"do_resize": False, "do_rescale": False, "do_normalize": False}, "range=0..255,channels=RGB"),
    ],
)  # fmt: skip
def test_processor_settings_are_read(tmp_path, config, text):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    assert str(_pictures(tmp_path)) == text


@pytest.mark.parametrize("config", [{"rescale_factor": 0.5}, {"do_pad": True}])
def test_processor_settings_that_are_not_known_are_refused(tmp_path, config):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="State `preprocessing` yourself"):
        _pictures(tmp_path)


def changed(source, target, **config):
    shutil.copytree(source, target)
    path = target / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return target


def test_folders_that_are_no_such_classifier_are_refused(text_model, picture_model, tmp_path):
    from safetensors.torch import load_file, save_file

    code = changed(text_model, tmp_path / "code", auto_map={"AutoModelForSequenceClassification": "evil.Model"})
    (code / "evil.py").write_text("raise RuntimeError('was run')")
    headless = changed(text_model, tmp_path / "headless")
    rest = {k: v for k, v in load_file(headless / "model.safetensors").items() if not k.startswith("classifier")}
    save_file(rest, headless / "model.safetensors", metadata={"format": "pt"})
    pickled = changed(text_model, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    broken = changed(text_model, tmp_path / "broken")
    (broken / "config.json").write_text("{")
    cut = changed(text_model, tmp_path / "cut")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:5000])
    for folder, message in (
        (code, "wants to run code of its own: refused"),
        (headless, "classifier.bias.*would be random"),
        (pickled, r"but found only \['pytorch_model.bin'\]"),
        (broken, "Cannot read .*config.json"),
        (cut, "Cannot read a classifier of texts"),
        (picture_model, "Cannot read a classifier of texts"),
        (tmp_path / "none", "does not exist"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            open_hugging_face(folder, "text")
