"""remnant shows what a compressed neural network forgot.

    trials = remnant.grid(remnant.Recipe("digits", "mlp"), [remnant.MagnitudePruning(0.9)], seeds=range(10))
    store = remnant.Store("runs")
    remnant.run(trials, store)
    audit = remnant.audit(remnant.load(store))
    remnant.write_report(audit, "report")

Importing this package imports neither torch nor xarray: names are resolved when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from remnant.version import __version__ as __version__

if TYPE_CHECKING:
    from remnant.analyses import audit as audit
    from remnant.compression import compress as compress
    from remnant.compression import write as write_compression  # noqa: F401
    from remnant.execute import run as run
    from remnant.finding import Analysis as Analysis
    from remnant.finding import Audit as Audit
    from remnant.finding import Claim as Claim
    from remnant.finding import Finding as Finding
    from remnant.gates import gate as gate
    from remnant.plan import grid as grid
    from remnant.plan import subsets as subsets
    from remnant.planner import plan_study as plan_study
    from remnant.population import load as load
    from remnant.population import paired as paired
    from remnant.population import thumbnails as thumbnails
    from remnant.recipes import recipe as recipe
    from remnant.report import read as read_report  # noqa: F401
    from remnant.report import write as write_report  # noqa: F401
    from remnant.schemes import Align as Align
    from remnant.schemes import Compose as Compose
    from remnant.schemes import Dense as Dense
    from remnant.schemes import Distillation as Distillation
    from remnant.schemes import DynamicInt8 as DynamicInt8
    from remnant.schemes import Float16 as Float16
    from remnant.schemes import GradualPruning as GradualPruning
    from remnant.schemes import GroupSparsity as GroupSparsity
    from remnant.schemes import IterativePruning as IterativePruning
    from remnant.schemes import LayerwisePruning as LayerwisePruning
    from remnant.schemes import LearningCompression as LearningCompression
    from remnant.schemes import LowRank as LowRank
    from remnant.schemes import MagnitudePruning as MagnitudePruning
    from remnant.schemes import OneShotPruning as OneShotPruning
    from remnant.schemes import QuantizationAwareTraining as QuantizationAwareTraining
    from remnant.schemes import Restored as Restored
    from remnant.schemes import SelectedData as SelectedData
    from remnant.schemes import StaticInt8 as StaticInt8
    from remnant.schemes import WeightOnly as WeightOnly
    from remnant.search import search_allocation as search_allocation
    from remnant.search import search_strength as search_strength
    from remnant.store import Store as Store
    from remnant.study import Study as Study
    from remnant.trial import Recipe as Recipe
    from remnant.trial import Subset as Subset
    from remnant.trial import Trial as Trial
    from remnant.versus import Compared as Compared
    from remnant.versus import compare as compare

_HOME = {
    "Align": "schemes",
    "Analysis": "finding",
    "Audit": "finding",
    "Claim": "finding",
    "Compared": "versus",
    "Compose": "schemes",
    "Dense": "schemes",
    "Distillation": "schemes",
    "DynamicInt8": "schemes",
    "Finding": "finding",
    "Float16": "schemes",
    "GradualPruning": "schemes",
    "GroupSparsity": "schemes",
    "IterativePruning": "schemes",
    "LayerwisePruning": "schemes",
    "LearningCompression": "schemes",
    "LowRank": "schemes",
    "MagnitudePruning": "schemes",
    "OneShotPruning": "schemes",
    "QuantizationAwareTraining": "schemes",
    "Recipe": "trial",
    "Restored": "schemes",
    "SelectedData": "schemes",
    "StaticInt8": "schemes",
    "Store": "store",
    "Study": "study",
    "Subset": "trial",
    "Trial": "trial",
    "WeightOnly": "schemes",
    "audit": "analyses",
    "compare": "versus",
    "compress": "compression",
    "gate": "gates",
    "grid": "plan",
    "load": "population",
    "paired": "population",
    "plan_study": "planner",
    "read_report": "report:read",
    "recipe": "recipes",
    "run": "execute",
    "search_allocation": "search",
    "search_strength": "search",
    "subsets": "plan",
    "thumbnails": "population",
    "write_compression": "compression:write",
    "write_report": "report:write",
}
"""Public name to the module that defines it (and its name there, where it differs)."""

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'remnant' has no attribute {name!r}")
    module, _, original = _HOME[name].partition(":")
    return getattr(import_module(f"remnant.{module}"), original or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
