"""How few training examples keep the model: python docs/results/data_selection.py SCALE STORE OUT [DATA]

SCALE is "digits" (minutes, embedded data), "cifar10-small" (minutes; DATA holds cifar10.npz) or "cifar10" (hours on two
cores). Trains what STORE does not hold yet, so that it can be interrupted, and writes OUT/tables.md, OUT/finding.json
and OUT/shares.png.
data-selection.md reads them.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from remnant import plan
from remnant.analyses import sufficiency
from remnant.execute import run
from remnant.finding import Finding
from remnant.lab.selection import Selection
from remnant.population import load
from remnant.recipes import recipe
from remnant.schemes import Dense
from remnant.store import Store
from remnant.sufficient import Computing, Found, Scored, choose, examples_of, search, with_fixed_steps
from remnant.trial import Recipe, Trial


@dataclass(frozen=True)
class Scale:
    """What is trained."""

    recipe: Recipe
    """As the scores see it; models on fewer examples train for as many steps as those on all."""
    seeds: int
    shares: tuple[float, ...]
    methods: tuple[str, ...]
    """Methods at every share; "random" is one of them."""
    removed: tuple[float, ...]
    """Shares of the ablation: the most memorized against random examples."""
    subset_trials: int
    """Trials on random 70 % subsets, for memorization; 0 where it is no method."""
    searched: tuple[str, ...]
    """Methods whose smallest share is searched."""
    scored_seeds: int = 5
    """Trainings over which scores are averaged."""
    engine: str = "processes"


METHODS = (
    "random",
    "forgetting-hard",
    "el2n-hard",
    "el2n-easy",
    "margin-hybrid",
    "margin-stratified",
    "memorization-hard",
)
SCALES = {
    "digits": Scale(
        recipe("digits-mlp"),
        seeds=5,
        shares=(0.1, 0.2, 0.3, 0.5, 0.7),
        methods=METHODS,
        removed=(0.05, 0.1, 0.2, 0.3),
        subset_trials=100,
        searched=("random", "forgetting-hard", "margin-hybrid"),
        engine="serial",  # a worker takes longer to start than a model to train
    ),
    # The recipe of cifar10.toml, whose store holds 100 trials on random subsets already.
    "cifar10": Scale(
        Recipe("arrays:cifar10.npz", "cnn", epochs=4, warmup=0.1, precision="bfloat16"),
        seeds=5,
        shares=(0.1, 0.3, 0.5, 0.7),
        methods=METHODS,
        removed=(0.05, 0.1, 0.2, 0.3),
        subset_trials=100,
        searched=("random", "margin-hybrid"),
    ),
    "cifar10-small": Scale(
        Recipe("arrays:cifar10.npz", "cnn", epochs=4, warmup=0.1, precision="bfloat16"),
        seeds=3,
        shares=(0.3, 0.5),
        methods=("random", "forgetting-hard"),
        removed=(),
        subset_trials=0,
        searched=(),
        scored_seeds=2,
        engine="serial",
    ),
}
DROPS = (0.02, 0.05)


def main(scale: Scale, store: Store, out: Path, root: str | None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    computing = Computing(root, scale.engine, progress=step)
    if scale.subset_trials:
        subsets = plan.subsets(scale.recipe, scale.subset_trials)
        run(subsets, store, engine=scale.engine, root=root, progress=report)
    number = len(examples_of(store, scale.recipe, computing.root))
    fixed = with_fixed_steps(scale.recipe, number)
    scored = Scored(seeds=scale.scored_seeds, recipe=scale.recipe)

    def chosen(method: str, share: float) -> Selection:
        return choose(store, method, share, recipe=fixed, scored=scored, computing=computing)

    pairs = {(method, share) for method in scale.methods for share in scale.shares}
    pairs |= {(m, 1 - share) for m in ("memorization-easy", "random") for share in scale.removed}
    schemes = [Dense(), *(chosen(method, round(share, 6)).scheme for method, share in sorted(pairs))]
    trials = [Trial(fixed, scheme, seed) for seed in range(scale.seeds) for scheme in schemes]
    run(trials, store, engine=scale.engine, root=root, progress=report)

    finding = sufficiency.run(load(store, trials), drops=DROPS)
    found = [
        search(store, m, drop=drop, seeds=range(scale.seeds), recipe=fixed, scored=scored, computing=computing)
        for m in scale.searched
        for drop in DROPS
    ]
    write(finding, found, out)


def write(finding: Finding, found: list[Found], out: Path) -> None:
    (out / "finding.json").write_text(finding.to_json())
    finding_axes = sufficiency.plot(finding)
    finding_axes.figure.savefig(out / "shares.png", dpi=160)
    tables = {name: table.drop(columns="scheme", errors="ignore") for name, table in finding.tables.items()}
    tables["search"] = pd.DataFrame([searched(one) for one in found])
    text = [f"All examples: accuracy {finding.parameters['reference_accuracy']:.4f}"]
    text += [f"{name}\n\n{markdown(table)}" for name, table in tables.items()]
    (out / "tables.md").write_text("\n\n".join(text) + "\n")


def searched(found: Found) -> dict[str, object]:
    share, change = found.share, found.change
    return {
        "method": found.method,
        "allowed_drop": found.drop,
        "share": float(share.estimate),
        "low": float(share.low),
        "high": float(share.high),
        "chosen_share": 1.0 if found.selection is None else found.selection.share,
        "change_on_other_half": float(change.estimate),
        "change_low": float(change.low),
        "change_high": float(change.high),
        "tested_shares": len(found.tried),
    }


def markdown(table: pd.DataFrame) -> str:
    rows = [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row] for row in table.itertuples(index=False)]
    lines = [list(table.columns), ["---"] * len(table.columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(state: object) -> None:
    print(f"\r{state.finished} of {state.total} trials ", end="", file=sys.stderr, flush=True)  # pyright: ignore


def step(finished: int, total: int, what: str) -> None:
    print(f"\r{what}: {finished} of {total} ", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5) or sys.argv[1] not in SCALES:
        sys.exit(__doc__)
    data = sys.argv[4] if len(sys.argv) == 5 else None
    main(SCALES[sys.argv[1]], Store(sys.argv[2]), Path(sys.argv[3]), data)
