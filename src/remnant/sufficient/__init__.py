"""The sufficient data set: the fewest training examples that keep the model.

    chosen = choose(store, "forgetting-hard", 0.5)      # scores (trained if missing), ids, put into the store
    chosen.write("ids.json")
    run(grid(recipe, [chosen.scheme], seeds), store)    # trials on these examples, beside the dense ones

The trials are compared like those of any compression; the analysis `sufficiency` shows accuracy, PIEs and the worst
class against the share kept. `search` finds the smallest share that keeps the accuracy.
"""

from remnant.sufficient.choice import (
    SCORES,
    Computing,
    Scored,
    choose,
    examples_of,
    methods,
    recipe_of,
    scores,
    with_fixed_steps,
)
from remnant.sufficient.search import Found, search

__all__ = [
    "SCORES", "Computing", "Found", "Scored", "choose", "examples_of", "methods", "recipe_of", "scores", "search",
    "with_fixed_steps",
]  # fmt: skip
