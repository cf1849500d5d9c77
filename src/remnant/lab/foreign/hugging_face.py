"""Image and text classifiers of Hugging Face transformers, from a local folder."""

import json
from pathlib import Path
from typing import Any, Literal

from remnant.lab.foreign.extras import needed
from remnant.lab.foreign.model import ForeignModel, of_module
from remnant.lab.foreign.preprocessing import Preprocessing
from remnant.lab.foreign.tokenization import LONGEST, Tokenization

RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's numbers of filters, as `resample` counts them."""

CODE_FREE = ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


def open_hugging_face(folder: Path, task: Literal["image", "text"]) -> ForeignModel:
    """The classifier in `folder`, for pictures or for texts.

    Only weights in safetensors are read, nothing is downloaded, and code in the folder is never run.

    Raises
    ------
    ValueError, FileNotFoundError
        If the folder does not hold such a classifier.
    """
    transformers = needed("transformers", f"hf:{folder}")
    config = _json(folder, "config.json")
    files = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    if not files:
        other = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".h5", ".msgpack"))
        found = f"only {other}" if other else "none"
        raise ValueError(
            f"Expected weights in {folder}/*.safetensors, but found {found}. "
            "Save the model again with model.save_pretrained(FOLDER)."
        )
    if "auto_map" in config:
        raise ValueError(f"Expected a model of transformers in {folder}, but it wants to run code of its own: refused.")
    maker = transformers.AutoModelForImageClassification
    if task == "text":
        maker = transformers.AutoModelForSequenceClassification
    options = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    try:
        module, report = maker.from_pretrained(str(folder), output_loading_info=True, **options)
    except Exception as error:  # transformers, safetensors and json each have errors of their own
        what = "pictures" if task == "image" else "texts"
        raise ValueError(f"Cannot read a classifier of {what} in {folder}: {_first_line(error)}") from error
    if absent := sorted(report["missing_keys"]):
        raise ValueError(
            f"Expected trained weights for all of the model in {folder}, but {absent[:3]} ({len(absent)} in all) are "
            "not in its files and would be random. Was it saved before it was fine-tuned as a classifier?"
        )
    names = module.config.id2label
    classes = tuple(str(names[i]) for i in range(len(names)))
    return of_module(
        module,
        name=folder.resolve().name,
        kind="hf",
        files=(*files, *(folder / name for name in CODE_FREE if (folder / name).is_file())),
        classes=None if all(name.startswith("LABEL_") for name in classes) else classes,
        own_preprocessing=_pictures(folder) if task == "image" else None,
        tokenization=Tokenization(folder, _max_length(module.config, folder)) if task == "text" else None,
        details={"transformers": transformers.__version__, "architecture": type(module).__name__},
    )


def _pictures(folder: Path) -> Preprocessing | None:
    """What preprocessor_config.json says; None if there is none.

    Raises
    ------
    ValueError
        If it asks for a step that remnant does not know.
    """
    if not (folder / "preprocessor_config.json").is_file():
        return None
    config = _json(folder, "preprocessor_config.json")
    crop = _sides(config.get("crop_size")) if config.get("do_center_crop") else None
    resize = _sides(config.get("size")) if config.get("do_resize", True) else None
    if "crop_pct" in config and resize and len(resize) == 1:  # ConvNeXT: resize beyond the size, then cut it
        side = resize[0]
        crop = (side, side) if side < 384 else None
        resize = (int(side / config["crop_pct"]),) if side < 384 else (side, side)
    if config.get("do_pad") or config.get("rescale_offset"):
        raise ValueError(f"{folder} asks for padding or an offset. State `preprocessing` yourself, as in 'size=224'.")
    factor = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1
    unit = {1 / 255: "0..1", 1: "0..255"}.get(factor)
    if unit is None:
        raise ValueError(f"{folder} scales pixels by {factor}. State `preprocessing` yourself, as in 'size=224'.")
    normal = config.get("do_normalize", True)
    return Preprocessing(
        resize,
        (crop[0], crop[-1]) if crop else None,
        tuple(config.get("image_mean") or ()) if normal else (),
        tuple(config.get("image_std") or ()) if normal else (),
        range="0..1" if unit == "0..1" else "0..255",
        channels="RGB",
        interpolation=RESAMPLING[config.get("resample", 2)],  # pyright: ignore[reportArgumentType]
    )


def _sides(size: Any) -> tuple[int, ...] | None:
    if isinstance(size, int):
        return (size, size)
    if isinstance(size, dict) and "shortest_edge" in size:
        return (int(size["shortest_edge"]),)
    if isinstance(size, dict) and {"height", "width"} <= set(size):
        return (int(size["height"]), int(size["width"]))
    return None


def _max_length(config: Any, folder: Path) -> int:
    stated = _json(folder, "tokenizer_config.json").get("model_max_length", LONGEST)
    positions = getattr(config, "max_position_embeddings", None) or LONGEST
    # RoBERTa and its kin count positions from the padding token on.
    positions -= 2 if config.model_type in ("roberta", "xlm-roberta", "camembert", "longformer") else 0
    return int(min(stated, positions, LONGEST))


def _json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        if name == "tokenizer_config.json":
            return {}
        raise FileNotFoundError(f"Expected a model of Hugging Face transformers, but {path.resolve()} does not exist.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"Cannot read {path}: {error}.") from error
    if not isinstance(found, dict):
        raise ValueError(f"Expected an object in {path}, but it holds {type(found).__name__}.")
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
