"""Losses that hold a compressed model to its reference while it trains."""

from remnant.lab.alignment.objective import objective

__all__ = ["objective"]
