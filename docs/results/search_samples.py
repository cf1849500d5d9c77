"""How many samples each method of `remnant.search` needs to find the right sparsity on simulated accuracy curves.

    python docs/results/search_samples.py

50 random curves: flat with a slight slope, then an S-shaped fall at a random place and of a random width. The limit is
a drop of 2 points below the dense accuracy; the truth is the strongest sparsity (in steps of 0.01) whose accuracy
without noise is in the limit. A search has found it when its answer, the strongest sample that was measured in the
limit, is within 1 point of sparsity of the truth and stays so. Ten samples at most.
"""

import numpy as np

from remnant.search.proposals import Method, next_strength

CURVES = 50
SAMPLES = 10
DROP = 0.02
GRID = np.round(np.arange(0.01, 1.0, 0.01), 2)
POSITIONS = (GRID - GRID[0]) / (GRID[-1] - GRID[0])
WAYS: list[tuple[str, Method, float]] = [
    ("bisection", "bisection", 0.2),
    ("expected improvement", "ei", 0.2),
    ("DR-UCB, gamma = 0.2 (default)", "dr-ucb", 0.2),
    ("DR-UCB, gamma = 0.5", "dr-ucb", 0.5),
]


def curve(number: int) -> tuple[float, np.ndarray]:
    """Dense accuracy, and the accuracy at each sparsity of the grid."""
    rng = np.random.default_rng([7, number])
    knee, width = rng.uniform(0.3, 0.97), rng.uniform(0.02, 0.15)
    top, slope = rng.uniform(0.7, 0.95), rng.uniform(0, 0.03)

    def accuracy(sparsity):
        return top - slope * sparsity - (top - 0.1) / (1 + np.exp(-3 * (sparsity - knee - width) / width))

    return float(accuracy(0.0)), accuracy(GRID)


def search(method: Method, gamma: float, margins: np.ndarray, noise: np.ndarray) -> list[int]:
    """The answer after each sample: index of the strongest sample in the limit, -1 for none."""
    tried: dict[int, float] = {}
    answers: list[int] = []
    while len(tried) < SAMPLES:
        index = next_strength(method, POSITIONS, tried, gamma=gamma)
        if index is None:
            break
        tried[index] = float(margins[index] + noise[index])
        answers.append(max((i for i, margin in tried.items() if margin >= 0), default=-1))
    return answers


def samples_needed(answers: list[int], truth: int) -> int | None:
    """Samples after which the answer is within 1 point of the truth and stays so; None if it is not at the end."""
    right = [abs(answer - truth) <= 1 for answer in answers]
    if not right[-1]:
        return None
    return len(right) - next((k for k, one in enumerate(reversed(right)) if not one), len(right)) + 1


def main() -> None:
    """Print the table."""
    print(
        "| noise of an accuracy | method | found, of 50 | samples until found | samples in all | mean error, points |"
    )
    print("|---|---|---|---|---|---|")
    for noise in (0.0, 0.003, 0.01):
        for name, method, gamma in WAYS:
            needed, used, errors = [], [], []
            for number in range(CURVES):
                dense, accuracy = curve(number)
                margins = (accuracy - (dense - DROP)) / (dense - DROP)
                truth = max(np.flatnonzero(margins >= 0), default=-1)
                shake = np.random.default_rng([1, number]).normal(0, noise, len(GRID)) / (dense - DROP)
                answers = search(method, gamma, margins, shake)
                needed.append(samples_needed(answers, int(truth)))
                used.append(len(answers))
                errors.append(abs(answers[-1] - truth))
            found = [one for one in needed if one is not None]
            print(
                f"| {100 * noise:g} points | {name} | {len(found)} | {np.mean(found):.1f} | {np.mean(used):.1f} "
                f"| {np.mean(errors):.1f} |"
            )


if __name__ == "__main__":
    main()
