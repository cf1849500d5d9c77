"""Compression schemes as frozen values without torch: what to do and how strongly."""

from typing import Any

from remnant.fields import build
from remnant.registry import find
from remnant.schemes.alignment import Align, parse_align
from remnant.schemes.composition import Compose
from remnant.schemes.distillation import Distillation
from remnant.schemes.group_sparsity import GroupSparsity
from remnant.schemes.layerwise import LayerwisePruning
from remnant.schemes.learning_compression import LearningCompression
from remnant.schemes.low_rank import LowRank
from remnant.schemes.pruning import GradualPruning, IterativePruning, MagnitudePruning, OneShotPruning
from remnant.schemes.quantization import DynamicInt8, Float16, QuantizationAwareTraining, StaticInt8, WeightOnly
from remnant.schemes.restored import Restored
from remnant.schemes.scheme import Dense, Scheme, TunedScheme, trains
from remnant.schemes.selected_data import SelectedData

__all__ = [
    "Align",
    "Compose",
    "Dense",
    "Distillation",
    "DynamicInt8",
    "Float16",
    "GradualPruning",
    "GroupSparsity",
    "IterativePruning",
    "LayerwisePruning",
    "LearningCompression",
    "LowRank",
    "MagnitudePruning",
    "OneShotPruning",
    "QuantizationAwareTraining",
    "Restored",
    "SCHEMES",
    "Scheme",
    "SelectedData",
    "StaticInt8",
    "TunedScheme",
    "WeightOnly",
    "parse_align",
    "scheme_from_dict",
    "trains",
]

SCHEMES: dict[str, type[Scheme]] = {
    scheme.kind: scheme
    for scheme in (
        Dense, MagnitudePruning, OneShotPruning, GradualPruning, IterativePruning, LayerwisePruning, GroupSparsity,
        LowRank, Distillation, LearningCompression, Float16, DynamicInt8, StaticInt8, WeightOnly,
        QuantizationAwareTraining, Restored, SelectedData, Compose,
    )
}  # fmt: skip


def scheme_from_dict(data: Any, where: str = "scheme") -> Scheme:
    """A scheme from {"kind": name, field: value, ...} or from its bare name.

    Raises
    ------
    ValueError
        Naming the key (as `where`), what was expected and what came.
    """
    if isinstance(data, Scheme):
        return data
    data = {"kind": data} if isinstance(data, str) else dict(data)
    if "kind" not in data:
        raise ValueError(f"Expected `{where}` to have a `kind`, but got {data!r}.")
    cls = find("scheme", data.pop("kind"), SCHEMES)
    if "parts" in data:
        data["parts"] = tuple(scheme_from_dict(part, f"{where}.parts") for part in data["parts"])
    if "scheme" in data:
        data["scheme"] = scheme_from_dict(data["scheme"], f"{where}.scheme")
    if isinstance(data.get("align"), str):
        data["align"] = parse_align(data["align"])
    return build(cls, data, where)
