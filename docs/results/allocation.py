"""A sparsity for each layer against one for all: python docs/results/allocation.py STORE [options]

STORE holds dense models, such as those of cifar10.toml. Candidates are pruned without fine-tuning. For several limits
on lost right answers (CIE-U), the smallest model within the limit among: one sparsity in every layer; one threshold
for all layers; all that the search tried. The choice is made on one half of the test examples; CIE-U is printed for
the other half. Trials stay in STORE: an interrupted search goes on.
"""

import argparse
import sys

from remnant.schemes import Dense
from remnant.schemes.layerwise import LayerwisePruning
from remnant.search import AllocationResult, Sample, search_allocation
from remnant.search.bench import Bench, Setting, prepared
from remnant.store import Store

STARTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
LIMITS = (0.01, 0.02, 0.05, 0.1, 0.2)


def kinds(found: AllocationResult) -> dict[str, list[Sample]]:
    """Candidates by how they were made; the starts are in pairs."""
    starts = [sample for sample in found.samples if sample.phase == "start"]
    return {"one sparsity": starts[::2], "one threshold": starts[1::2], "search": list(found.samples)}


def rows(found: AllocationResult, bench: Bench) -> list[dict[str, str]]:
    """A line for each limit: the smallest candidate of each kind."""
    table = []
    for limit in LIMITS:
        row = {"CIE-U, at most": f"{limit:.0%}"}
        for name, samples in kinds(found).items():
            inside = [sample for sample in samples if sample.measures["cie_u"] <= limit]
            best = min(inside, key=lambda sample: sample.measures["memory"], default=None)
            if best is not None:
                lost = bench.held_out(best.scheme)["cie_u"].estimate
                memory = f"{best.measures['memory'] / 1000:.1f} kB"
                row[name] = f"{memory}, {best.value:.0%} zeros, CIE-U {lost:.1%}"
        table.append(row)
    return table


def markdown(table: list[dict[str, str]]) -> str:
    names = list(dict.fromkeys(name for row in table for name in row))
    lines = [names, ["---"] * len(names), *([row.get(name, "none") for name in names] for row in table)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--data", help="folder of the data; default the environment variable REMNANT_DATA")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--sampler", choices=["tpe", "nsga2"], default="tpe")
    given = parser.parse_args()
    store = Store(given.store)
    recipe = next(trial.recipe for trial in store.trials() if trial.scheme == Dense())
    setting = Setting(
        store, recipe, tuple(range(given.seeds)), ("memory", "cie_u"), 0.5, root=given.data, engine="serial"
    )
    found = search_allocation(
        LayerwisePruning((0.5,), epochs=0), store=store, recipe=recipe, sampler=given.sampler, starts=STARTS,
        max_samples=given.samples, seeds=setting.seeds, root=given.data, engine="serial", report=say,
    )  # fmt: skip
    print(f"{len(found.samples)} candidates, {len(found.front)} in the front\n")
    print(markdown(rows(found, prepared(setting))))
    weights = ", ".join(f"{name} ({number:,})" for name, number in found.layers.items())
    print(f"\nSparsities of the front, layers {weights}:\n")
    for sample in found.front:
        assert isinstance(sample.scheme, LayerwisePruning)
        print(f"- CIE-U {sample.measures['cie_u']:.1%}: {sample.scheme.sparsities}")


def say(sample: Sample) -> None:
    print(f"{sample.value:.3f} zeros, CIE-U {sample.measures['cie_u']:.4f}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
