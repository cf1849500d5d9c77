"""What trained models make of decoded images: an audit of codec settings, and the smallest setting that is enough."""

from remnant.fidelity.auditing import audit
from remnant.fidelity.bench import Bench, Evaluated, bench, settings
from remnant.fidelity.fitting import Fitted, fit
from remnant.fidelity.ladders import PARAMETERS, Ladder, ladder

__all__ = ["Bench", "Evaluated", "Fitted", "Ladder", "PARAMETERS", "audit", "bench", "fit", "ladder", "settings"]
