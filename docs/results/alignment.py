"""The table of losses in compression.md: mismatches of every scheme and their ratio to plain fine-tuning.

python docs/results/alignment.py STORE [BASELINE]
"""

import sys
from collections import defaultdict

import numpy as np
from scipy import stats

from remnant.schemes import Dense
from remnant.search.measures import examples
from remnant.stats.agreement import top_class
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
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    print("\n".join("| " + " | ".join(line) + " |" for line in lines))


def counts(store: Store) -> dict[str, dict[int, tuple[float, int, int]]]:
    """Label of a scheme to seed to (accuracy, CIEs, CIE-Us) against the dense model of the seed."""
    trials = [trial for trial in store.trials() if trial.subset is None]
    dense = {trial.seed: trial for trial in trials if trial.scheme == Dense()}
    found: dict[str, dict[int, tuple[float, int, int]]] = defaultdict(dict)
    for trial in sorted(trials, key=lambda trial: (trial.scheme.label, trial.seed)):
        if trial.seed in dense and trial.scheme != Dense():
            found[trial.scheme.label][trial.seed] = against(store, dense[trial.seed], trial)
    return found


def against(store: Store, dense: Trial, trial: Trial) -> tuple[float, int, int]:
    """(accuracy, CIEs, CIE-Us) of a trial."""
    label = examples(store, trial).label
    before, after = (top_class(store.read(one)["logits"]) for one in (dense, trial))
    changed = before != after
    return float((after == label).mean()), int(changed.sum()), int((changed & (before == label)).sum())


def ratio(base: np.ndarray, other: np.ndarray) -> str:
    """Geometric mean over seeds of base / other, with a 95 % t interval of its logarithm (paired by seed)."""
    logs = np.log(base / other)
    if len(logs) < 2:
        return f"{np.exp(logs.mean()):.2f}"
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs))
    low, high = np.exp([logs.mean() - half, logs.mean() + half])
    return f"{np.exp(logs.mean()):.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main(*sys.argv[1:])
