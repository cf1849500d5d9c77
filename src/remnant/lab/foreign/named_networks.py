"""Networks that torchvision or timm know by name, with weights from a local file."""

from pathlib import Path

from remnant.lab.foreign.checkpoints import load_into, read_weights
from remnant.lab.foreign.extras import needed
from remnant.lab.foreign.model import ForeignModel, of_module
from remnant.lab.foreign.preprocessing import Preprocessing
from remnant.references import ModelReference
from remnant.registry import unknown


def open_torchvision(reference: ModelReference, num_classes: int | None) -> ForeignModel:
    """A classification model of torchvision; without `num_classes`, with as many as the weights have."""
    from torchvision import models

    known = models.list_models(module=models)
    if reference.name not in known:
        raise unknown("model", f"torchvision:{reference.name}", [f"torchvision:{name}" for name in known])
    path = Path(reference.path)
    weights = read_weights(path)
    options = {"aux_logits": False, "init_weights": False} if reference.name in ("googlenet", "inception_v3") else {}
    weights = {k: v for k, v in weights.items() if not (options and k.startswith(("aux", "AuxLogits")))}
    module = models.get_model(reference.name, weights=None, num_classes=num_classes or 1000, **options)
    load_into(module, weights, str(path))
    return of_module(
        module, name=str(reference), kind="torchvision", files=(path,), details={"torchvision": _version("torchvision")}
    )


def open_timm(reference: ModelReference, num_classes: int | None, channels: int | None) -> ForeignModel:
    """A model of timm; preprocessing "model" is what timm's configuration of that name says."""
    timm = needed("timm", str(reference))
    if not timm.is_model(reference.name):
        raise unknown("model", f"timm:{reference.name}", [f"timm:{name}" for name in timm.list_models()])
    path = Path(reference.path)
    weights = read_weights(path)
    options = {} if channels is None else {"in_chans": channels}
    module = timm.create_model(reference.name, pretrained=False, num_classes=num_classes or 1000, **options)
    load_into(module, weights, str(path))
    return of_module(
        module,
        name=str(reference),
        kind="timm",
        files=(path,),
        own_preprocessing=_configured(timm.data.resolve_model_data_config(module)),
        details={"timm": _version("timm")},
    )


def _configured(config: dict) -> Preprocessing:
    """timm's evaluation transform: the shorter side to size / crop_pct, then the middle."""
    _, height, width = config["input_size"]
    resize = int(height / config["crop_pct"])
    squash = config.get("crop_mode") == "squash" or height != width
    return Preprocessing(
        resize=(int(height / config["crop_pct"]), int(width / config["crop_pct"])) if squash else (resize,),
        crop=(height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        channels="RGB",
        interpolation="bicubic" if config["interpolation"] == "random" else config["interpolation"],
    )


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
