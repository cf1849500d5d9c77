"""What storing images in fewer bytes costs models that were trained on raw ones."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.answer_pairs import compressed_sides
from remnant.analyses.comparison import Comparison, class_names
from remnant.analyses.decoding_plot import draw
from remnant.finding import Analysis, Claim, Exhibit, Finding, NotApplicable
from remnant.stats.equivalence import tango_interval
from remnant.stats.rates import wilson
from remnant.stats.trial_intervals import mean_interval

QUESTION = "What do fewer bytes for images cost models that were trained on raw ones?"
ACCOUNTING = "headers shared"
"""How bytes are counted in bits per value: see `remnant.codecs.sizes.ACCOUNTINGS`."""


def run(population: xr.Dataset, *, reference: str | None = None, gallery: int = 6) -> Finding:
    """Accuracy of each model on decoded images, beside the bytes, PSNR and SSIM of the images.

    Sides are codec settings. `attrs["codings"]` holds a record of each: scheme, codec, images, values, bytes by
    accounting, psnr, ssim; `attrs["models"]` the name and architecture of each model, by seed. `reestimated(trial,
    example)`, where there is one, holds predictions after batch-norm statistics were estimated again on decoded
    training images, -1 for models without such statistics.

    Parameters
    ----------
    reference
        Label of the side with raw images; default that of the population.
    gallery
        Examples shown of each setting, raw beside decoded.

    Raises
    ------
    NotApplicable
        If the population has no codec settings.
    """
    if not population.attrs.get("codings"):
        raise NotApplicable("The sides are no codec settings. Audit decoded images with `remnant data audit`.")
    sides = compressed_sides(population, reference)
    codings = {row["scheme"]: row for row in population.attrs["codings"]}
    sides = [side for side in sides if side.scheme in codings]
    if not sides:
        raise NotApplicable(f"None of the sides is one of the codec settings {list(codings)}.")
    models = population.attrs.get("models") or []
    tables = {"accuracy": _accuracy_table(sides, codings, models), "sizes": _sizes_table(codings)}
    return Finding(
        analysis="decoding",
        question=QUESTION,
        parameters={"reference": sides[0].reference_label, "accounting": ACCOUNTING, "gallery": gallery},
        claims=tuple(claim for side in sides for claim in _claims(side, codings[side.scheme])),
        tables=tables,
        caveats=_caveats(sides),
        galleries={
            f"Lost, raw beside decoded: {side.scheme}": exhibits
            for side in sides
            if (exhibits := _lost(side, class_names(population), gallery))
        },
        cites=ANALYSIS.cites,
    )


def bits_per_value(coding: dict[str, Any]) -> float:
    """Bits for one value of one channel of a pixel; raw images have 8."""
    return 8 * coding["bytes"][ACCOUNTING] / coding["values"]


def change_interval(lost: NDArray[np.bool_], gained: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Change of accuracy with its 95 % interval over examples, for these models; both of shape (model, example).

    For one model the score interval of Tango, for several Student's interval of the examples' mean change.
    """
    if len(lost) == 1:
        counts = int(lost.sum()), int(gained.sum()), lost.shape[1]
        low, high = tango_interval(*counts)
        return (counts[1] - counts[0]) / counts[2], float(low), float(high)
    found = mean_interval(gained.mean(axis=0) - lost.mean(axis=0))
    return float(found.estimate), float(found.low), float(found.high)


def plot(finding: Finding) -> Any:
    """Accuracy against bits per value, one panel for each architecture."""
    return draw(finding.tables["accuracy"], str(finding.parameters["reference"]))


def _accuracy_table(sides: list[Comparison], codings: dict[str, Any], models: list[dict[str, Any]]) -> pd.DataFrame:
    first = sides[0]
    label, seeds = first.reference["label"].values, first.reference["seed"].values.tolist()
    raw_again = _reestimated(first.reference)
    known = dict(enumerate(models))
    rows = []
    for number, seed in enumerate(seeds):
        model = known.get(int(seed), {"name": f"model {seed}", "architecture": "model"})
        start = {"model": model["name"], "architecture": model["architecture"]}
        raw = first.first[number] == label
        again = None if raw_again is None or (raw_again[number] < 0).any() else raw_again[number] == label
        reference = codings.get(first.reference_label)
        look = {"bits_per_value": 8.0} if reference is None else _look(reference)
        rows.append({**start, "scheme": first.reference_label, "codec": "", **look, **_accuracies(raw, again)})
        for side in sides:
            place = side.compressed["seed"].values.tolist().index(seed)
            right = side.second[place] == label
            later = _reestimated(side.compressed)
            later = None if later is None or again is None else later[place] == label
            coding = codings[side.scheme]
            row = {**start, "scheme": side.scheme, "codec": coding["codec"], **_look(coding)}
            rows.append(row | _accuracies(right, later, raw, again))
    table = pd.DataFrame(rows).dropna(axis="columns", how="all")
    last = [name for name in ("psnr", "ssim", "architecture", "codec") if name in table]
    return table.reindex(columns=[*table.columns.drop(last), *last])


def _look(coding: dict[str, Any]) -> dict[str, float]:
    return {"bits_per_value": bits_per_value(coding), "psnr": coding["psnr"], "ssim": coding["ssim"]}


def _accuracies(
    right: NDArray[np.bool_],
    reestimated: NDArray[np.bool_] | None,
    raw: NDArray[np.bool_] | None = None,
    raw_reestimated: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Accuracy and its change, before and after statistics were estimated again; each change against its own raw."""
    row: dict[str, float] = {}
    for start, now, before in (("", right, raw), ("reestimated_", reestimated, raw_reestimated)):
        if now is None:
            row |= dict.fromkeys((f"{start}accuracy", f"{start}accuracy_low", f"{start}accuracy_high"), np.nan)
            row |= dict.fromkeys((f"{start}change_points", f"{start}change_low", f"{start}change_high"), np.nan)
            continue
        low, high = wilson(int(now.sum()), len(now))
        row |= {f"{start}accuracy": float(now.mean())}
        row |= {f"{start}accuracy_low": float(low), f"{start}accuracy_high": float(high)}
        change = (np.nan,) * 3 if before is None else change_interval((before & ~now)[None], (now & ~before)[None])
        names = (f"{start}change_points", f"{start}change_low", f"{start}change_high")
        row |= {name: 100 * value for name, value in zip(names, change, strict=True)}
    return row


def _reestimated(side: xr.Dataset) -> NDArray[np.integer] | None:
    return side["reestimated"].values if "reestimated" in side else None


def _sizes_table(codings: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for scheme, coding in codings.items():
        for accounting, count in coding["bytes"].items():
            share = count / coding["values"]
            row = {"scheme": scheme, "accounting": accounting, "bytes": count}
            row |= {"bytes_per_image": count / coding["images"], "bits_per_value": 8 * share}
            rows.append({**row, "share_of_uint8": share, "share_of_float32": share / 4})
    return pd.DataFrame(rows)


def _claims(side: Comparison, coding: dict[str, Any]) -> list[Claim]:
    label = side.reference["label"].values
    n, images = len(label), int(coding["images"])
    counted = f"bytes of all images ({ACCOUNTING}), in bits for each value of a pixel; no interval"
    distance = "of decoded images against raw ones; no interval"
    found = [
        _number("bits_per_value", side.scheme, bits_per_value(coding), images, counted),
        _number("ssim", side.scheme, coding["ssim"], images, f"mean SSIM {distance}", "wang2004image, section III B"),
    ]
    if np.isfinite(coding["psnr"]):
        how = f"PSNR in dB of the mean squared error {distance}"
        found.append(_number("psnr", side.scheme, coding["psnr"], images, how))
    before, after = _paired(side, side.first, side.second)
    found.append(_change_claim("decoded_accuracy_change", side.scheme, before == label, after == label, n, ""))
    again = _reestimated(side.reference), _reestimated(side.compressed)
    if again[0] is not None and again[1] is not None:
        first, second = _paired(side, again[0], again[1])
        kept = (first >= 0).all(axis=1) & (second >= 0).all(axis=1)
        if kept.any():
            words = "; batch-norm statistics of each estimated on training images of its kind"
            right = first[kept] == label, second[kept] == label
            found.append(_change_claim("reestimated_accuracy_change", side.scheme, *right, n, words))
    return found


def _number(quantity: str, scheme: str, value: float, images: int, method: str, citation: str = "") -> Claim:
    return Claim(quantity, scheme, float(value), None, None, images, "example", method, citation, "number")


def _paired(side: Comparison, first: NDArray, second: NDArray) -> tuple[NDArray, NDArray]:
    """Answers of the reference and of the compressed side, model by model."""
    places = side.compressed["seed"].values.tolist()
    return first, second[[places.index(seed) for seed in side.reference["seed"].values.tolist()]]


def _change_claim(
    quantity: str, scheme: str, before: NDArray[np.bool_], after: NDArray[np.bool_], n: int, more: str
) -> Claim:
    estimate, low, high = change_interval(before & ~after, after & ~before)
    several = len(before) > 1
    method = f"accuracy on decoded images less that on raw ones{', mean over models' if several else ''}{more}; "
    method += "Student's interval over examples, for these models" if several else "score interval over examples"
    source = "" if several else "tango1998equivalence"
    return Claim(quantity, scheme, estimate, low, high, n, "example", method, source, "points")


def _lost(side: Comparison, names: list[str] | NDArray, most: int) -> tuple[Exhibit, ...]:
    """Examples that most models got right raw and wrong decoded, in order of the example among equals."""
    label, ids = side.reference["label"].values, side.reference["example"].values
    first, second = _paired(side, side.first, side.second)
    lost = (first == label) & (second != label)
    times = lost.sum(axis=0)
    chosen = [i for i in np.argsort(-times, kind="stable")[: max(most, 0)] if times[i]]
    exhibits = []
    for i in chosen:
        answers, votes = np.unique(second[lost[:, i], i], return_counts=True)
        often = f" by {times[i]} of {len(first)} models" if len(first) > 1 else ""
        beside = Exhibit(side.scheme, str(ids[i]), (f"decoded: {names[int(answers[votes.argmax()])]}{often}",))
        lines = (f"true: {names[int(label[i])]}", f"{side.reference_label}: right")
        exhibits.append(Exhibit("test", str(ids[i]), lines, float(times[i] / len(first)), beside))
    return tuple(exhibits)


def _caveats(sides: list[Comparison]) -> tuple[str, ...]:
    caveats = [
        f"Bits per value count {ACCOUNTING}: coded pixels of every image, and each distinct header or table once. "
        "Files of their own need more: the table of sizes has every accounting.",
        "Codecs are compared at the settings that were asked for. `remnant data fit` searches for the smallest one.",
    ]
    if _reestimated(sides[0].reference) is not None:
        caveats.append(
            "Statistics of batch norm are estimated again without labels, in a copy of the model. Estimating them on "
            "raw images moves accuracy too, so each change is against the raw images with the same treatment. Models "
            "of a store see them with the random changes of their training, others without."
        )
    return tuple(caveats)


ANALYSIS = Analysis(
    name="decoding",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("label",),
    cites=("joseph2020correctness",),
)
