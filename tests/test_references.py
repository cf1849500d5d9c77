"""Words that name a model or a file of predictions."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remnant.references import FORMS, PREDICTION_ENDINGS, ModelReference, is_model_reference, model_reference

GOOD = {
    "net.onnx": ModelReference("onnx", path="net.onnx"),
    "a/b/NET.INT8.ONNX": ModelReference("onnx", path="a/b/NET.INT8.ONNX"),
    "net.pt2": ModelReference("pt2", path="net.pt2"),
    "torchscript:net.pt": ModelReference("torchscript", path="net.pt"),
    "pickle:whole.pt": ModelReference("pickle", path="whole.pt"),
    "nets:small": ModelReference("function", "nets:small"),
    "my.nets:small@a b/w.safetensors": ModelReference("function", "my.nets:small", "a b/w.safetensors"),
    "my.nets:small@w.pth": ModelReference("function", "my.nets:small", "w.pth"),
    "torchvision:resnet18@w.pth": ModelReference("torchvision", "resnet18", "w.pth"),
    "timm:vit_tiny.augreg@w.safetensors": ModelReference("timm", "vit_tiny.augreg", "w.safetensors"),
    "hf:models/bert": ModelReference("hf", path="models/bert"),
}  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_every_form_is_read_and_written_back(text):
    assert model_reference(text) == GOOD[text]
    assert str(GOOD[text]) == text
    assert is_model_reference(text)


@pytest.mark.parametrize("ending", PREDICTION_ENDINGS)
def test_files_of_predictions_are_no_models(ending):
    for name in (f"dense{ending}", f"a/b.c/dense{ending}", f"dense{ending}.gz", rf"C:\runs\dense{ending}"):
        assert not is_model_reference(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net.pt", r"Did you mean 'torchscript:net.pt'"),
        ("net.pkl", r"Did you mean 'pickle:net.pkl'"),
        ("net.onx", r"Did you mean 'net.onnx'"),
        ("net.h5", "remnant cannot run it"),
        ("torch-vision:resnet18@w.pth", r"Did you mean 'torchvision:resnet18@w.pth'"),
        ("timm:resnet18", "Name a local file of weights, such as 'timm:resnet18@weights.safetensors'"),
        ("torchvision:@w.pth", "nothing is downloaded"),
        ("hf:", "A folder is missing after 'hf:'"),
        ("torchscript:", "A file is missing"),
        ("nets:small@w.zip", "Expected weights in a file that ends in"),
        ("nets:", "Expected a model, but got 'nets:'"),
        ("", "Expected a model, but got ''"),
    ],
)
def test_bad_references_say_what_is_missing_and_list_all_forms(text, message):
    with pytest.raises(ValueError, match=message) as error:
        model_reference(text)
    assert all(form in str(error.value) for form in FORMS)


@pytest.mark.parametrize("text", ["net.pt", "net.pth", "net.tflite", "timm:resnet18", "nets:small@w.zip"])
def test_badly_written_models_count_as_models_so_that_they_get_the_right_error(text):
    assert is_model_reference(text)


@given(st.text())
def test_any_text_is_a_reference_or_a_clear_error(text):
    message = None
    try:
        assert model_reference(text).kind
        assert is_model_reference(text)
    except ValueError as error:
        message = str(error)
    assert message is None or message.startswith("Expected a model")


def test_references_are_read_without_torch():
    code = "import sys, remnant.references; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
