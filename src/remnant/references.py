"""What a word on the command line names: a file of predictions, or a model to run."""

import difflib
import re
from dataclasses import dataclass
from pathlib import PurePath

FORMS: dict[str, str] = {
    "FILE.onnx": "an ONNX model, quantized or not, run by ONNX Runtime",
    "FILE.pt2": "an archive of torch.export",
    "package.module:function": "your function that returns a torch.nn.Module with its weights",
    "package.module:function@FILE": "the same, with weights from a .safetensors, .pt or .pth file",
    "torchvision:NAME@FILE": "a classification model of torchvision, with weights from a file",
    "timm:NAME@FILE": "a model of timm, with weights from a file",
    "hf:DIR": "an image or text classifier of Hugging Face transformers, from a folder with safetensors",
    "torchscript:FILE": "a TorchScript file; it runs code of its own, so it is named as such",
    "pickle:FILE": "a whole module saved with torch.save; unpickling runs any code, so only by this name",
}
"""How a model is written, to what it is."""

PREDICTION_ENDINGS = (".npz", ".npy", ".csv", ".tsv", ".parquet", ".json", ".jsonl", ".safetensors")
"""Endings of files that hold predictions; texts also with .gz behind it."""

_PREFIXES = ("torchvision", "timm", "hf", "torchscript", "pickle")
_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_STRANGE = {
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin"), "It may hold weights, a module or TorchScript"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), "It may run any code when it is read"),
    **dict.fromkeys((".h5", ".keras", ".pb", ".tflite", ".mlmodel", ".engine", ".gguf"), "remnant cannot run it"),
}
_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d][\w.]*")


@dataclass(frozen=True)
class ModelReference:
    """A model as its user wrote it, taken apart."""

    kind: str
    """ "onnx", "pt2", "function", "torchvision", "timm", "hf", "torchscript" or "pickle"."""
    name: str = ""
    """`package.module:function`, or the name that a package gives the model."""
    path: str = ""
    """The file or the folder; "" if there is none."""

    def __str__(self) -> str:
        if self.kind in ("onnx", "pt2"):
            return self.path
        if self.kind == "function":
            return f"{self.name}@{self.path}" if self.path else self.name
        return f"{self.kind}:{self.name}@{self.path}" if self.name else f"{self.kind}:{self.path}"


def is_model_reference(text: str) -> bool:
    """Whether `text` names a model to run, well or badly written; else it is a file of predictions.

    Only the text is looked at. What ends as a model's file does, or as none of remnant's, counts as a
    model, so that `model_reference` can say what is wrong with it.
    """
    prefix = text.partition(":")[0]
    if prefix in _PREFIXES or _FUNCTION.fullmatch(text.partition("@")[0]):
        return True
    return _ending(text) in {".onnx", ".pt2", *_STRANGE}


def model_reference(text: str) -> ModelReference:
    """The model that `text` names, taken apart; `FORMS` lists how to write one. No file is touched.

    Raises
    ------
    ValueError
        With all forms and the nearest, or with what is missing.
    """
    prefix, colon, rest = text.partition(":")
    if colon and prefix in ("torchscript", "pickle", "hf"):
        if not rest:
            raise _unknown(text, f"A {'folder' if prefix == 'hf' else 'file'} is missing after '{prefix}:'.")
        return ModelReference(prefix, path=rest)
    if colon and prefix in ("torchvision", "timm"):
        name, at, path = rest.partition("@")
        if not (name and at and path):
            example = f"{prefix}:{name or 'resnet18'}@weights.safetensors"
            raise _unknown(text, f"Name a local file of weights, such as {example!r}: nothing is downloaded.")
        return ModelReference(prefix, name, path)
    name, at, path = text.partition("@")
    if _FUNCTION.fullmatch(name):
        if at and not path.lower().endswith(_WEIGHTS):
            raise _unknown(text, f"Expected weights in a file that ends in one of {list(_WEIGHTS)} after '@'.")
        return ModelReference("function", name, path)
    if (ending := _ending(text)) in (".onnx", ".pt2"):
        return ModelReference(ending[1:], path=text)
    if ending in _STRANGE:
        raise _unknown(text, f"A file {ending!r} does not say what to do with it. {_STRANGE[ending]}.")
    raise _unknown(text, "")


def _unknown(text: str, why: str) -> ValueError:
    """The error for what is no model, with all forms and the nearest."""
    near = nearest(text)
    forms = "\n".join(f"  {form:32}{meaning}" for form, meaning in FORMS.items())
    hint = f" Did you mean {near!r}?" if near else ""
    return ValueError(f"Expected a model, but got {text!r}.{' ' if why else ''}{why}{hint} A model is one of\n{forms}")


def nearest(text: str) -> str:
    """The way of writing a model that `text` may have been meant as; "" if there is none."""
    prefix, colon, rest = text.partition(":")
    ending = _ending(text)
    if ending in (".pt", ".pth") and not colon:
        return f"torchscript:{text}"
    if ending in (".pkl", ".pickle") and not colon:
        return f"pickle:{text}"
    if colon and (near := difflib.get_close_matches(prefix.lower(), _PREFIXES, n=1, cutoff=0.6)) and prefix != near[0]:
        return f"{near[0]}:{rest}"
    if (near := difflib.get_close_matches(ending, (".onnx", ".pt2"), n=1, cutoff=0.6)) and ending != near[0]:
        return text[: -len(ending)] + near[0]
    return ""


def _ending(text: str) -> str:
    return PurePath(text).suffix.lower()
