"""What schemes do to one dense model of a store, as tables of compression.md show it.

python docs/results/schemes.py STORE IMAGES "static-int8" "weight-only(bits=4)" ...    DATA in REMNANT_DATA
"""

import sys

import numpy as np

from remnant.lab import footprint, probe
from remnant.lab.compress import Context, compress
from remnant.lab.dataset import Split
from remnant.lab.run import dataset_of, load_model, reproducible
from remnant.schemes import Dense
from remnant.schemes.parsing import parse_scheme
from remnant.store import Store


def main(root: str, images: str, *labels: str) -> None:
    store = Store(root)
    dense = min((t for t in store.trials() if t.scheme == Dense() and t.subset is None), key=lambda t: t.seed)
    dataset, model = dataset_of(dense, store), load_model(dense, store)
    number = int(images)
    test = Split(dataset.test.images[:number], dataset.test.labels[:number], dataset.test.ids[:number])  # pyright: ignore
    context = Context(dense.recipe, dataset, np.arange(len(dataset.train.labels)), dense.rng)
    label, before = test.labels.numpy(), probe.logits(model, dataset, test).argmax(1)
    print(f"dense: {100 * (before == label).mean():.2f} % of {number}, seed {dense.seed}")
    for text in labels:
        compressed = compress(parse_scheme(text), model, context)
        after, cost = (
            probe.logits(compressed, dataset, test).argmax(1),
            footprint.measure(compressed, dataset.input_shape),
        )
        lost = int(((before == label) & (after != label)).sum())
        print(
            f"{text}: {100 * (after == label).mean():.2f} %, CIE {int((before != after).sum())}, CIE-U {lost}, "
            f"{cost['parameters']:,} parameters, {cost['nonzeros']:,} not 0, {cost['flops'] / 1e6:.2f} MFLOPs",
            flush=True,
        )


if __name__ == "__main__":
    with reproducible():
        main(*sys.argv[1:])
