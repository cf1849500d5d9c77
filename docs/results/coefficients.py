"""Table II of Joseph et al. at any scale: accuracy of networks that learn from ZFP's coefficients, by precision.

    python docs/results/coefficients.py arrays:cifar10.npz --data FOLDER --epochs 4 --seeds 0 1 2 --out table.json

For each network, precision and seed: trained from coefficients, and once from raw pixels, with one recipe (no
augmentation, which would have to be made of pixels). Prints a Markdown table of means and ranges over seeds, and
writes all numbers. What `--out` holds already is not computed again.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import mean

import numpy as np
import torch

from remnant.lab.coefficients import named, with_coefficients
from remnant.lab.data import Dataset, load
from remnant.lab.models import build
from remnant.lab.train import accuracy, train
from remnant.trial import Recipe, Trial

RAW = "raw images"


def main() -> None:
    options = arguments()
    path = Path(options.out)
    done = {key(run): run for run in json.loads(path.read_text())} if path.exists() else {}
    raw = load(options.dataset, options.data)
    inputs = [RAW, *(f"zfp-precision-{p}" for p in options.precisions), *options.others]
    for name in inputs:
        dataset = raw if name == RAW else with_coefficients(raw, named(name))
        for architecture in options.architectures:
            for seed in options.seeds:
                run = {"inputs": name, "architecture": architecture, "seed": seed, "epochs": options.epochs,
                       "examples": options.examples, "learning_rate": options.learning_rate}  # fmt: skip
                if key(run) not in done:
                    done[key(run)] = run | measure(dataset, run)
                    path.write_text(json.dumps(list(done.values()), indent=1) + "\n")
                    print(done[key(run)], flush=True)
    print(table(list(done.values()), inputs, options.architectures))


def measure(dataset: Dataset, run: dict) -> dict[str, float]:
    """Test accuracy after training on the first examples, and the time that training took."""
    plain = run["architecture"]
    fits_itself = plain.startswith(("mlp", "cnn"))
    architecture = plain if run["inputs"] == RAW or fits_itself else f"coefficient-{plain}"
    recipe = Recipe(dataset.name, architecture, epochs=run["epochs"], learning_rate=run["learning_rate"], warmup=0.15)
    trial = Trial(recipe, seed=run["seed"])
    model = build(architecture, dataset.input_shape, dataset.num_classes, trial.rng("init"))
    chosen = np.arange(len(dataset.train))[: run["examples"]]
    start = time.perf_counter()
    train(model, recipe, dataset, chosen, trial.rng)
    seconds = time.perf_counter() - start
    return {"accuracy": accuracy(model, dataset, "test"), "seconds": seconds}


def table(runs: list[dict], inputs: list[str], architectures: list[str]) -> str:
    """Markdown: a row for each kind of inputs, mean accuracy with lowest and highest seed for each network."""
    lines = ["| inputs | " + " | ".join(architectures) + " |", "|---" * (len(architectures) + 1) + "|"]
    for name in inputs:
        cells = []
        for architecture in architectures:
            found = [r["accuracy"] for r in runs if (r["inputs"], r["architecture"]) == (name, architecture)]
            cells.append(f"{mean(found):.2%} ({min(found):.2%} to {max(found):.2%}, n = {len(found)})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def key(run: dict) -> tuple:
    return tuple(run[k] for k in ("inputs", "architecture", "seed", "epochs", "examples", "learning_rate"))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help='as in recipes, such as "cifar10" or "arrays:cifar10.npz"')
    parser.add_argument("--data", help="folder of the data set")
    parser.add_argument("--architectures", nargs="+", default=["resnet20"])
    parser.add_argument("--precisions", nargs="*", type=int, default=list(range(2, 13)))
    parser.add_argument("--others", nargs="*", default=[], help="such as dct-4 dct-8 jpeg-75 zfp-rate-2.5")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=float, default=4.0)
    parser.add_argument("--examples", type=int, help="training examples; all of them by default")
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--out", default="coefficients.json")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    return options


if __name__ == "__main__":
    main()
