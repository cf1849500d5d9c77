"""Search for the strongest compression that a budget allows.

    found = search_strength(OneShotPruning(0.5), "cie_u<=0.5%", store=store, recipe=recipe)
    found.best.scheme, found.reason, found.to_frame()

`search_allocation` gives each layer a sparsity of its own: a front of size against forgetting. Budgets and objectives
are expressions of the quantities in `QUANTITIES`.
"""

from remnant.search.allocation import AllocationResult, search_allocation
from remnant.search.axes import Axis, axis, with_field
from remnant.search.objectives import Budget, Constraint, Objective
from remnant.search.proposals import Method
from remnant.search.quantities import NAMES, QUANTITIES, Quantity
from remnant.search.result import Sample, SearchResult
from remnant.search.strength import search_strength

__all__ = [
    "AllocationResult", "Axis", "Budget", "Constraint", "Method", "NAMES", "Objective", "QUANTITIES", "Quantity",
    "Sample", "SearchResult", "axis", "search_allocation", "search_strength", "with_field",
]  # fmt: skip
