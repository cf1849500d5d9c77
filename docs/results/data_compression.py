"""Accuracy of trained networks on decoded images: python docs/results/data_compression.py PART STORE OUT [DATA] [LIMIT]

PART is one of
  sizes     Table I: the smallest size within a fall of accuracy, by search; OUT/table1.md
  layouts   the same for other layouts of ZFP, on the first network; OUT/layouts.md
  curves    figure 7: a grid of settings; OUT/figure7.png, OUT/curves.md and the whole report
  overlays  figure 8 as numbers: occlusion maps of raw and decoded images; OUT/overlays.md
  pictures  figure 8: some of these maps over the images, of the last network; OUT/figure8.png
  training  the small network trained on raw and on decoded images, tested on either; OUT/training.md. STORE is filled,
            OUT holds the data sets.
STORE holds dense networks of CIFAR-10, one of each architecture: data-compression.md says how they were trained. DATA
is the folder of cifar10.npz. LIMIT takes only so many of the 10,000 test images, evenly spaced.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from torch import nn

from remnant import fidelity
from remnant.analyses import decoding
from remnant.codecs import parse
from remnant.execute import run
from remnant.fidelity import Bench
from remnant.lab.containers import write_dataset
from remnant.lab.data import Dataset, load
from remnant.lab.decoded import Subject, images, logits, material
from remnant.lab.foreign.evaluation_sets import moments
from remnant.lab.occlusion import occlusion
from remnant.lab.run import load_model
from remnant.schemes import Dense
from remnant.stats.attribution import weighted_jaccard
from remnant.store import Store
from remnant.trial import Recipe, Trial

GRID = (
    *(f"jpeg(quality={q})" for q in (5, 10, 20, 35, 50, 75, 90)),
    *(f"zfp-precision(precision={p})" for p in (3, 4, 5, 6, 8)),
    *(f"zfp-rate(rate={r})" for r in (0.75, 1, 1.5, 2, 3, 4)),
)
"""Settings of figure 7."""
SEARCHED = ("jpeg", "zfp-rate", "zfp-precision")
LAYOUTS = ("zfp-rate(layout=volume)", "zfp-rate(layout=batch)", "zfp-rate(dtype=int32)")
"""Other ways to hand images to ZFP."""
DROPS = (0.02, 0.05)
"""The epsilon of Table I."""
TRAIN_IMAGES = 2000
"""On which batch-norm statistics are estimated again."""
OVERLAYS = ("jpeg(quality=10)", "jpeg(quality=50)", "zfp-rate(rate=1)", "zfp-precision(precision=4)")
PICTURED = ("jpeg(quality=10)", "zfp-rate(rate=1)")
OVERLAID = 100
"""Test images whose occlusion maps are compared."""
TRAINED = ("jpeg(quality=20)", "jpeg(quality=5)", "zfp-rate(rate=1)")
SEEDS = range(2)


def plain_cnn(input_shape: Sequence[int], num_classes: int) -> nn.Module:
    """The network "cnn" with biases in the place of batch normalization, for 32x32 images."""
    layers: list[nn.Module] = []
    channels = input_shape[0]
    for wide in (16, 32, 64):
        layers += [nn.Conv2d(channels, wide, 3, stride=2, padding=1), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].weight, mode="fan_out", nonlinearity="relu")  # pyright: ignore
        channels = wide
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * 16, num_classes))


def curves(store: str, out: Path, root: str | None, limit: int | None) -> None:
    """Figure 7, and the report of its settings."""
    found = fidelity.audit(store=store, codecs=GRID, root=root, limit=limit, reestimate=TRAIN_IMAGES, progress=step)
    found.write(out / "report")
    finding = found.audit.finding("decoding")
    assert finding is not None
    decoding.plot(finding).figure.savefig(out / "figure7.png", dpi=160, facecolor="white")
    table = finding.tables["accuracy"]
    shown = table.filter(["model", "scheme", "bits_per_value", "psnr", "ssim", "accuracy"])
    shown["change"] = between(table, "change_points", "change")
    shown["re-estimated"] = table["reestimated_accuracy"]
    shown["its change"] = between(table, "reestimated_change_points", "reestimated_change")
    (out / "curves.md").write_text(markdown(shown) + "\n\n" + markdown(finding.tables["sizes"]) + "\n")


def table_one(store: str, out: Path, root: str | None, limit: int | None) -> None:
    """Table I: the smallest size within a fall of accuracy, for each network and codec."""
    every = fidelity.bench(store=store, root=root, limit=limit)
    rows = []
    for model in every.material.models:
        bench = Bench(replace(every.material, models=(model,)))
        for codec in SEARCHED:
            for drop in DROPS:
                step(len(rows), len(every.material.models) * len(SEARCHED) * len(DROPS), f"{model.name}: {codec}")
                rows.append({"model": model.name, **fitted(fidelity.fit(bench, codec, drop=drop))})
    (out / "table1.md").write_text(markdown(pd.DataFrame(rows)) + "\n")


def layouts(store: str, out: Path, root: str | None, limit: int | None) -> None:
    """Table I once more for other layouts of ZFP, on the first network."""
    every = fidelity.bench(store=store, root=root, limit=limit)
    bench = Bench(replace(every.material, models=every.material.models[:1]))
    rows = [fitted(fidelity.fit(bench, codec, drop=drop)) for codec in LAYOUTS for drop in DROPS]
    (out / "layouts.md").write_text(markdown(pd.DataFrame(rows)) + "\n")


def fitted(found: fidelity.Fitted) -> dict[str, object]:
    if found.chosen is None:
        return {"allowed": f"{found.drop:.0%}", "setting": "none"}
    shares = {size.accounting: size.uint8_share for size in found.chosen.sizes}
    low, high = found.share_interval
    change = [100 * value for value in found.change]
    return {
        "allowed": f"{found.drop:.0%}",
        "setting": found.chosen.codec.label,
        **{f"{name}, of uint8": f"{share:.1%}" for name, share in shares.items()},
        "interval": f"{low:.1%} to {high:.1%}",
        "headers shared, of float32": f"{shares['headers shared'] / 4:.2%}",
        "change on other half": f"{change[0]:.1f} ({change[1]:.1f} to {change[2]:.1f})",
        "tested": len(found.tried),
    }


def overlays(store: str, out: Path, root: str | None, limit: int | None) -> None:
    """Figure 8 as numbers: how alike occlusion maps of raw and decoded images are."""
    bench = fidelity.bench(store=store, root=root, limit=limit or OVERLAID)
    raw, truth = bench.material.images, bench.material.data.labels
    assert truth is not None
    rows = []
    for place, model in enumerate(bench.material.models):
        before = occlusion(model, raw, truth, patch=8)
        right = bench.raw[place].argmax(axis=1) == truth
        for codec in fidelity.settings(OVERLAYS):
            shown = codec.encode(raw).decode()
            lost = right & (bench.evaluate(codec).logits[place].argmax(axis=1) != truth)
            kept = right & ~lost
            alike = weighted_jaccard(before, occlusion(model, shown, truth, patch=8))
            row = {"model": model.name, "codec": codec.label, "still right": kept.sum(), "lost": lost.sum()}
            row |= {"IoU still right": np.nanmean(alike[kept]) if kept.any() else np.nan}
            rows.append({**row, "IoU lost": np.nanmean(alike[lost]) if lost.any() else np.nan})
    (out / "overlays.md").write_text(markdown(pd.DataFrame(rows)) + "\n")


def pictures(store: str, out: Path, root: str | None, limit: int | None) -> None:
    """Figure 8: occlusion maps of the true class over raw and decoded images."""
    bench = fidelity.bench(store=store, root=root, limit=limit or OVERLAID)
    raw, model, data = bench.material.images, bench.material.models[-1], bench.material.data
    truth, names = data.labels, data.classes
    assert truth is not None
    assert names is not None
    columns = {"raw": (raw, bench.raw[-1].argmax(axis=1))}
    for codec in fidelity.settings(PICTURED):
        columns[codec.label] = (codec.encode(raw).decode(), bench.evaluate(codec).logits[-1].argmax(axis=1))
    maps = {label: occlusion(model, shown, truth, patch=8) for label, (shown, _) in columns.items()}
    right = np.stack([answers == truth for _, answers in columns.values()])
    # The first two that every codec keeps, and the first two that every codec loses.
    chosen = [*np.flatnonzero(right.all(axis=0))[:2], *np.flatnonzero(right[0] & ~right[1:].any(axis=0))[:2]]
    figure, axes = plt.subplots(len(chosen), 2 * len(columns), figsize=(6.6, 1.25 * len(chosen)), squeeze=False)
    for place, (label, _) in zip(range(0, 2 * len(columns), 2), columns.items(), strict=True):
        axes[0, place].set_title(label, fontsize=6, loc="left")
    for row, example in zip(axes, chosen, strict=True):
        highest = maps["raw"][example].max()
        for place, (label, (shown, answers)) in enumerate(columns.items()):
            picture, overlay = row[2 * place : 2 * place + 2]
            picture.imshow(shown[example])
            overlay.imshow(shown[example].mean(axis=2), cmap="gray", vmin=0, vmax=255)
            overlay.imshow(maps[label][example], cmap="inferno", vmin=0, vmax=highest, alpha=0.6)
            picture.set_xlabel(names[answers[example]], fontsize=6, labelpad=1)
    for one in axes.flat:
        one.set(xticks=[], yticks=[])
    figure.tight_layout(pad=0.4, h_pad=0.6)
    figure.savefig(out / "figure8.png", dpi=110, facecolor="white")


def training(folder: str, out: Path, root: str | None, limit: int | None) -> None:
    """The small network, trained on raw and on decoded images, tested on either."""
    source, raw = load("arrays:cifar10.npz", root), Learned(out, Store(folder), "png")
    raw.learn(source)
    rows = []
    for label in TRAINED:
        decoded = Learned(out, Store(folder), label)
        decoded.learn(source)
        found = {
            "trained and tested on raw": raw.accuracy(raw),
            "trained on raw, tested on decoded": raw.accuracy(decoded),
            "trained and tested on decoded": decoded.accuracy(decoded),
            "trained on decoded, tested on raw": decoded.accuracy(raw),
        }
        rows.append({"setting": label, **{name: over_seeds(values) for name, values in found.items()}})
        (out / "training.md").write_text(markdown(pd.DataFrame(rows)) + "\n")


@dataclass(frozen=True)
class Learned:
    """Networks that learned a data set as a codec left it."""

    folder: Path
    store: Store
    label: str

    @property
    def name(self) -> str:
        return f"container:{re.sub('[^a-z0-9.]+', '-', self.label).strip('-')}.rmn"

    @property
    def trials(self) -> list[Trial]:
        recipe = Recipe(self.name, "cnn", epochs=4, warmup=0.1, precision="bfloat16")
        return [Trial(recipe, Dense(), seed) for seed in SEEDS]

    def learn(self, source: Dataset) -> None:
        path = self.folder / self.name.partition(":")[2]
        if not path.exists():
            write_dataset(source, path, parse(self.label))
        step(0, len(self.trials), f"networks on {self.name}")
        run(self.trials, self.store, engine="serial", root=str(self.folder))

    def accuracy(self, other: "Learned") -> list[float]:
        """Accuracy of each network on the test images of another data set, which it sees through its own moments."""
        own, asked = (load(name, str(self.folder)) for name in (self.name, other.name))
        shown, truth = images(asked.test, np.arange(len(asked.test))), asked.test.labels.numpy()
        models = [load_model(trial, self.store, str(self.folder)) for trial in self.trials]
        subjects = [Subject(str(place), "cnn", model, moments(own)) for place, model in enumerate(models)]
        return [float((logits(one, shown).argmax(1) == truth).mean()) for one in material(subjects, own).models]


def over_seeds(values: list[float]) -> str:
    return f"{np.mean(values):.1%} ({min(values):.1%} to {max(values):.1%})"


def between(table: pd.DataFrame, name: str, start: str) -> list[str]:
    cells = zip(table[name], table[f"{start}_low"], table[f"{start}_high"], strict=True)
    return ["" if np.isnan(value) else f"{value:.1f} ({low:.1f} to {high:.1f})" for value, low, high in cells]


def markdown(table: pd.DataFrame) -> str:
    def cell(value: object) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else f"{value:.4g}"
        return str(value)

    rows = [[cell(value) for value in row] for row in table.itertuples(index=False)]
    lines = [list(table.columns), ["---"] * len(table.columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def step(finished: int, total: int, what: str) -> None:
    print(f"{finished} of {total}: {what}", file=sys.stderr, flush=True)


PARTS = {"sizes": table_one, "layouts": layouts, "curves": curves, "overlays": overlays}
PARTS |= {"pictures": pictures, "training": training}

if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in PARTS:
        sys.exit(__doc__)
    folder = Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    number = int(sys.argv[5]) if len(sys.argv) > 5 else None
    PARTS[sys.argv[1]](sys.argv[2], folder, sys.argv[4] if len(sys.argv) > 4 else None, number)
