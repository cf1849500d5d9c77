"""Models made elsewhere, run on data: `predict` gives their answers as `remnant.ingest` reads them from files.

Names are resolved when they are used: workers that train import parts of this package and not pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remnant.lab.foreign.evaluation_sets import FORMS as DATA_FORMS  # noqa: F401
    from remnant.lab.foreign.evaluation_sets import EvaluationData as EvaluationData
    from remnant.lab.foreign.evaluation_sets import evaluation_data as evaluation_data
    from remnant.lab.foreign.evaluation_sets import of_arrays as of_arrays
    from remnant.lab.foreign.model import ForeignModel as ForeignModel
    from remnant.lab.foreign.model import of_callable as of_callable
    from remnant.lab.foreign.opening import open_model as open_model
    from remnant.lab.foreign.predicting import predict as predict
    from remnant.lab.foreign.preprocessing import PRESETS as PRESETS
    from remnant.lab.foreign.preprocessing import Preprocessing as Preprocessing
    from remnant.lab.foreign.sanity import Expectation as Expectation
    from remnant.lab.foreign.tokenization import Tokenization as Tokenization

_HOME = {
    "DATA_FORMS": "evaluation_sets:FORMS",
    "EvaluationData": "evaluation_sets",
    "Expectation": "sanity",
    "ForeignModel": "model",
    "PRESETS": "preprocessing",
    "Preprocessing": "preprocessing",
    "Tokenization": "tokenization",
    "evaluation_data": "evaluation_sets",
    "of_arrays": "evaluation_sets",
    "of_callable": "model",
    "open_model": "opening",
    "predict": "predicting",
}
"""Public name to the module that defines it (and its name there, where it differs)."""

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, original = _HOME[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), original or name)
