"""Predictions that were made elsewhere, as a population that analyses understand.

reference = read("float.npz")
compressed = read("int8.csv")
people = population({"float": [reference], "int8": [compressed]})
"""

from remnant.ingest.limits import Limits
from remnant.ingest.predictions import Predictions, from_arrays
from remnant.ingest.reading import READERS, read
from remnant.ingest.sides import population

__all__ = ["READERS", "Limits", "Predictions", "from_arrays", "population", "read"]
