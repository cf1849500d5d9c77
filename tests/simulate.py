"""Populations with known truth, for tests."""

import numpy as np
import xarray as xr


def population(
    rng: np.random.Generator,
    *,
    schemes: dict[str, float] | None = None,
    num_seeds: int = 8,
    num_subset_trials: int = 0,
    num_examples: int = 200,
    num_train: int = 150,
    num_classes: int = 5,
    forgotten: float = 0.0,
    influential: int = 0,
    effect: float = 0.6,
) -> xr.Dataset:
    """A population whose logits are a common signal plus independent noise in every trial.

    Parameters
    ----------
    schemes
        Label to extra noise (standard deviation of the logits), which costs accuracy. 0 means the
        scheme is drawn from the same process as the dense models (the null).
    forgotten
        Share of the examples (the first ones) on which every scheme but "dense" tends to another class.
    influential
        Number of training examples (the first ones); example j is answered right with probability
        higher by `effect` when training example j is in the subset.
    """
    schemes = {"dense": 0.0, "magnitude-pruning(sparsity=0.9)": 0.0} if schemes is None else schemes
    label = np.arange(num_examples) % num_classes
    train_label = np.arange(num_train) % num_classes
    signal = rng.normal(0, 0.4, (num_examples, num_classes))
    signal[np.arange(num_examples), label] += rng.uniform(0, 4, num_examples)
    is_forgotten = np.arange(num_examples) < round(forgotten * num_examples)
    trials = [(s, seed, -1) for s in schemes for seed in range(num_seeds)]
    trials += [("dense", k, k) for k in range(num_subset_trials)]
    logits = np.empty((len(trials), num_examples, num_classes), np.float32)
    included = np.ones((len(trials), num_train), bool)
    train_prediction = np.tile(train_label, (len(trials), 1))
    for row, (scheme, _, subset) in enumerate(trials):
        logits[row] = signal + rng.normal(0, 1 + schemes.get(scheme, 0.0), signal.shape)
        if scheme != "dense":
            logits[row, is_forgotten, (label[is_forgotten] + 1) % num_classes] += 8
        if subset >= 0:
            included[row] = rng.permutation(num_train) < round(0.7 * num_train)
            out = ~included[row]
            # Half of the examples are memorized: wrong unless trained on.
            lost = out & (np.arange(num_train) % 2 == 0) & (rng.random(num_train) < 0.8)
            train_prediction[row, lost] = (train_label[lost] + 1) % num_classes
            for j in range(influential):
                right = rng.random() < (0.2 + effect * included[row, j])
                logits[row, j] = 0
                logits[row, j, label[j] if right else (label[j] + 1) % num_classes] = 5
    margin = np.where(train_prediction == train_label, 1.0, -1.0) + rng.normal(0, 0.1, train_prediction.shape)
    num_parameters = np.full(len(trials), 1000)
    return xr.Dataset(
        {
            "logits": (("trial", "example", "class"), logits),
            "label": (("example",), label),
            "train_label": (("train_example",), train_label),
            "train_prediction": (("trial", "train_example"), train_prediction.astype(np.uint8)),
            "train_correct": (("trial", "train_example"), train_prediction == train_label),
            "train_margin": (("trial", "train_example"), margin.astype(np.float16)),
            "included": (("trial", "train_example"), included),
            "parameters": (("trial",), num_parameters),
            "nonzeros": (("trial",), np.array([100 if "0.9" in s else 1000 for s, _, _ in trials])),
            "bytes": (("trial", "encoding"), np.tile([4000, 2000, 1000, 525, 900], (len(trials), 1))),
            "flops": (("trial",), np.full(len(trials), 2000)),
            "effective_flops": (("trial",), np.array([200 if "0.9" in s else 2000 for s, _, _ in trials])),
            "latency": (("trial",), rng.uniform(1e-6, 2e-6, len(trials))),
        },
        coords={
            "trial": [f"{s}/{seed}/{subset}" for s, seed, subset in trials],
            "scheme": ("trial", [s for s, _, _ in trials]),
            "seed": ("trial", [seed for _, seed, _ in trials]),
            "subset": ("trial", [subset for _, _, subset in trials]),
            "example": [f"test-{i:05}" for i in range(num_examples)],
            "train_example": [f"train-{i:05}" for i in range(num_train)],
            "class": [f"class {c}" for c in range(num_classes)],
            "encoding": ["float32", "float16", "int8", "float32 bitmask", "float32 csr"],
            "group_site": ("example", np.where(np.arange(num_examples) % 3 == 0, "A", "B")),
        },
        attrs={"dataset": "simulated", "recipe": "simulated"},
    )
