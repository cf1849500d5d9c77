"""The tables of losses in compression.md.

python docs/results/alignment.py STORE [BASELINE]    mismatches of every scheme, and their ratio to plain fine-tuning
python docs/results/alignment.py report.json         the long tail, from an audit with `long_tail`
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import stats

from remnant.answers import predicted
from remnant.finding import Audit
from remnant.schemes import Dense
from remnant.search.measures import examples
from remnant.store import Store
from remnant.trial import Trial


def main(root: str, baseline: str = "") -> None:
    store = Store(root)
    found = counts(store)
    first = baseline or next(label for label in found if "align" not in label)
    rows = [["scheme", "seeds", "accuracy", "CIE", "CIE-U", "CIE ratio", "CIE-U ratio"]]
    for label, by_seed in found.items():
        seeds = sorted(set(by_seed) & set(found[first]))
        accuracy, cie, cie_u = (np.array([by_seed[seed][k] for seed in seeds], float) for k in range(3))
        base = np.array([found[first][seed] for seed in seeds], float)
        rows.append(
            [
                label, str(len(seeds)), f"{100 * accuracy.mean():.2f} %", f"{cie.mean():.0f}", f"{cie_u.mean():.0f}",
                ratio(base[:, 1], cie) if label != first else "1", ratio(base[:, 2], cie_u) if label != first else "1",
            ]
        )  # fmt: skip
    _print(rows)


def counts(store: Store) -> dict[str, dict[int, tuple[float, int, int]]]:
    """Label of a scheme to seed to (accuracy, CIEs, CIE-Us) against the dense model of the seed."""
    trials = [trial for trial in store.trials() if trial.subset is None]
    if len({trial.recipe for trial in trials}) > 1:
        sys.exit(f"Expected trials of one recipe in {store.root}, but it has several.")
    dense = {trial.seed: trial for trial in trials if trial.scheme == Dense()}
    found: dict[str, dict[int, tuple[float, int, int]]] = defaultdict(dict)
    for trial in sorted(trials, key=lambda trial: (trial.scheme.label, trial.seed)):
        if trial.seed in dense and trial.scheme != Dense():
            found[trial.scheme.label][trial.seed] = against(store, dense[trial.seed], trial)
    return found


def against(store: Store, dense: Trial, trial: Trial) -> tuple[float, int, int]:
    """(accuracy, CIEs, CIE-Us) of a trial."""
    label = examples(store, trial).label
    before, after = (predicted(store.read(one)) for one in (dense, trial))
    changed = before != after
    return float((after == label).mean()), int(changed.sum()), int((changed & (before == label)).sum())


def ratio(base: np.ndarray, other: np.ndarray) -> str:
    """Sum over seeds of base over that of other, with a 95 % jackknife interval of its logarithm (paired by seed)."""
    whole, number = np.log(base.sum() / other.sum()), len(base)
    if number < 2:
        return f"{np.exp(whole):.2f}"
    left_out = np.log((base.sum() - base) / (other.sum() - other))
    error = np.sqrt((number - 1) * np.mean((left_out - left_out.mean()) ** 2))
    half = stats.t.ppf(0.975, number - 1) * error
    return f"{np.exp(whole):.2f} ({np.exp(whole - half):.2f} to {np.exp(whole + half):.2f})"


def long_tail(path: str) -> None:
    """Figures 4 and 6 of Dam et al. for every scheme of an audit: their t, and the calibrated test."""
    audit = Audit.from_dict(json.loads(Path(path).read_text()))
    found = audit.finding("long_tail")
    assert found is not None
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for claim in found.claims:
        values[claim.subject][claim.quantity] = claim.estimate
    rows = [["scheme", "t, as published", "its spread under the null", "p of t, calibrated", "AUC", "p", "q"]]
    for scheme, one in values.items():
        if "long_tail_t" in one:
            names = (
                "long_tail_t",
                "long_tail_t_spread",
                "long_tail_t_p",
                "long_tail_auc",
                "long_tail_p",
                "long_tail_q",
            )
            rows.append([scheme, *(f"{one[name]:.2f}" for name in names)])
    _print(rows)


def _print(rows: list[list[str]]) -> None:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    print("\n".join("| " + " | ".join(line) + " |" for line in lines))


if __name__ == "__main__":
    long_tail(sys.argv[1]) if sys.argv[1].endswith(".json") else main(*sys.argv[1:])
