"""Limits as people write them ("1%", "0.5pt", "20MB", "4x") to numbers and back; see `remnant.units`."""

from remnant.units import EXAMPLES, Unit, checked, parse, shown

__all__ = ["EXAMPLES", "Unit", "checked", "parse", "shown"]
