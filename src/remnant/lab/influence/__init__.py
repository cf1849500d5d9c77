"""The influence of millions of training examples on thousands of test examples, from packed bits, in one pass.

The matrix of 50,000 test by 1,281,167 training examples has 6.4e10 entries. Counts of 0/1 outcomes are products of
small integers with exact sums, which CPUs do fastest; a tile of counts stays in the cache while reducers take from it
what beats their bar, and never leaves it.
"""

from remnant.lab.influence.products import BACKENDS, default_backend
from remnant.lab.influence.reducers import CountAbove, HistogramZ, PairsAbove, TooManyPairsError
from remnant.lab.influence.scan import Reducer, scan
from remnant.lab.influence.strongest import StrongestOfTraining, StrongestOnExamples
from remnant.lab.influence.whole import WholeMatrix, matrix_bytes

__all__ = [
    "BACKENDS",
    "CountAbove",
    "HistogramZ",
    "PairsAbove",
    "Reducer",
    "StrongestOfTraining",
    "StrongestOnExamples",
    "TooManyPairsError",
    "WholeMatrix",
    "default_backend",
    "matrix_bytes",
    "scan",
]
