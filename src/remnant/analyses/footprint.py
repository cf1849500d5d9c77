"""What a compressed model costs, and what it keeps for that."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.panels import SERIES, panels
from remnant.analyses.subset_trials import correctness
from remnant.finding import Analysis, Claim, Finding, NotApplicable
from remnant.population import predictions, schemes, subsets, whole
from remnant.stats.trial_intervals import Interval, mean_interval

QUESTION = "What does a model cost under each scheme, and what does it keep for that?"
_COSTS = ("parameters", "nonzeros", "flops", "effective_flops", "latency")


def run(population: xr.Dataset) -> Finding:
    """Weights, bytes, operations and time of each scheme (means over its trials), with ratios to dense.

    Ratios are dense over scheme: 2 = half the cost. Size is that of the smallest stated encoding that loses
    nothing: those of float32 values suit every scheme; another number format counts only for schemes whose label
    names it, because storing other weights in it would change them.
    """
    trials = {label: _trials(population, label) for label in schemes(population)}
    if not trials:
        raise NotApplicable("Needs at least one trial.")
    dense = trials.get("dense")
    encodings = pd.DataFrame([row for label, part in trials.items() for row in _encoding_rows(label, part, dense)])
    costs = {label: _cost_row(label, part, dense, encodings) for label, part in trials.items()}
    table = pd.DataFrame([{**row, **_kept(trials[label], dense, label)} for label, row in costs.items()])
    return Finding(
        analysis="footprint",
        question=QUESTION,
        parameters={},
        claims=tuple(claim for label, part in trials.items() for claim in _claims(label, part, dense, table)),
        tables={"schemes": table, "encodings": encodings},
        caveats=_caveats(population, table, dense),
        cites=ANALYSIS.cites,
    )


def _trials(population: xr.Dataset, label: str) -> xr.Dataset:
    """Trials on the whole training set, or on subsets where there are no others."""
    found = whole(population, label)
    return found if found.sizes["trial"] else subsets(population, label)


def lossless(encoding: str, label: str) -> bool:
    """Whether a scheme's weights survive an encoding.

    Its number format is float32 or "own" (each tensor's own), or the scheme's label names it and no layer is restored.
    """
    number_format = encoding.split()[0]
    return number_format in ("float32", "own") or (number_format in label and "restored(" not in label)


def _encoding_rows(label: str, trials: xr.Dataset, dense: xr.Dataset | None) -> list[dict[str, Any]]:
    start = None if dense is None else _bytes(dense, "float32")
    rows = []
    for encoding in trials["encoding"].values.tolist():
        size = _bytes(trials, encoding)
        if size is None:
            continue
        mean = float(size.mean())
        ratio = np.nan if start is None else float(start.mean()) / mean
        row = {"scheme": label, "encoding": encoding, "bytes": mean, "size_ratio": ratio}
        rows.append({**row, "lossless": lossless(encoding, label)})
    return rows


def _bytes(trials: xr.Dataset, encoding: str) -> NDArray[np.float64] | None:
    """Bytes of each trial in an encoding; None where it is not stated."""
    if encoding not in trials["encoding"].values:
        return None
    size = trials["bytes"].sel(encoding=encoding).values.astype(np.float64)
    return size if np.isfinite(size).all() and (size > 0).all() else None


def _cost_row(label: str, trials: xr.Dataset, dense: xr.Dataset | None, encodings: pd.DataFrame) -> dict[str, Any]:
    row: dict[str, Any] = {"scheme": label, "trials": trials.sizes["trial"]}
    means = {name: float(trials[name].values.mean()) for name in _COSTS if name in trials}
    row |= {name: means[name] for name in ("parameters", "nonzeros") if name in means}
    own: Any = encodings[(encodings["scheme"] == label) & encodings["lossless"]]
    if len(own):
        smallest = own.loc[own["bytes"].idxmin()]
        row |= {"smallest_encoding": smallest["encoding"], "bytes": smallest["bytes"]}
        row["size_ratio"] = smallest["size_ratio"]
    for name in ("flops", "effective_flops"):
        if name in means:
            row[name] = means[name]
    if "effective_flops" in means and dense is not None:
        row["effective_flops_ratio"] = float(dense["effective_flops"].values.mean()) / means["effective_flops"]
    if "latency" in means:
        row["latency_microseconds"] = 1e6 * means["latency"]
        ratio = None if dense is None else _latency_ratio(trials, dense)
        row["latency_ratio"] = np.nan if ratio is None else float(ratio.estimate)
    return row


def _latency_ratio(trials: xr.Dataset, dense: xr.Dataset) -> Interval | None:
    """Geometric mean over shared seeds of dense over scheme, so that what slows a machine cancels; None without any."""
    seeds, first, second = np.intersect1d(dense["seed"].values, trials["seed"].values, return_indices=True)
    if len(seeds) == 0:
        return None
    logs = np.log(dense["latency"].values[first]) - np.log(trials["latency"].values[second])
    found = mean_interval(logs.astype(np.float64))
    return Interval(np.exp(found.estimate), found.standard_error, np.exp(found.low), np.exp(found.high))


def _kept(trials: xr.Dataset, dense: xr.Dataset | None, label: str) -> dict[str, float]:
    """Accuracy, and the share of test examples that change, where there are predictions."""
    if "logits" not in trials or "label" not in trials:
        return {}
    accuracy = mean_interval(correctness(trials).mean(axis=1))
    row = {"test_accuracy": float(accuracy.estimate), "low": float(accuracy.low), "high": float(accuracy.high)}
    if dense is None:
        return row
    _, first, second = np.intersect1d(dense["seed"].values, trials["seed"].values, return_indices=True)
    if len(first):
        changed = predictions(dense.isel(trial=first)) != predictions(trials.isel(trial=second))
        row["cie_rate"] = float(changed.mean())
    return row


def _claims(label: str, trials: xr.Dataset, dense: xr.Dataset | None, table: pd.DataFrame) -> list[Claim]:
    row = table[table["scheme"] == label].iloc[0]
    num = trials.sizes["trial"]
    claims = [
        Claim(name, label, float(row[name]), None, None, num, "trial", "mean over trials", "", "count")
        for name in ("parameters", "nonzeros", "bytes", "effective_flops")
        if name in row and np.isfinite(row[name])
    ]
    if dense is None:
        return claims
    if np.isfinite(row.get("size_ratio", np.nan)):
        start = dense["bytes"].sel(encoding="float32").values.mean()
        size = trials["bytes"].sel(encoding=row["smallest_encoding"]).values.astype(np.float64)
        method = f"dense float32 bytes over bytes as {row['smallest_encoding']}, the smallest lossless encoding stated"
        claims.append(_ratio("size_ratio", label, float(row["size_ratio"]), start / size, method))
    if np.isfinite(row.get("effective_flops_ratio", np.nan)):
        ratios = dense["effective_flops"].values.mean() / trials["effective_flops"].values.astype(np.float64)
        method = "dense over scheme, multiplications by weights that are 0 left out"
        claims.append(_ratio("effective_flops_ratio", label, float(row["effective_flops_ratio"]), ratios, method))
    ratio = _latency_ratio(trials, dense) if "latency" in trials else None
    if ratio is not None:
        known = label != "dense" and np.isfinite(ratio.low)
        low, high = (float(ratio.low), float(ratio.high)) if known else (None, None)
        method = "dense over scheme, measured; geometric mean over seeds"
        claims.append(
            Claim("latency_ratio", label, float(ratio.estimate), low, high, num, "trial", method, "", "number")
        )
    return claims


def _ratio(name: str, label: str, estimate: float, by_trial: NDArray[np.float64], method: str) -> Claim:
    """A ratio of means, with Student's interval over trials unless all trials agree."""
    interval = mean_interval(by_trial)
    varies = bool(np.isfinite(interval.low)) and np.ptp(by_trial) > 1e-9 * abs(estimate) and label != "dense"
    shift = estimate - float(interval.estimate)
    low, high = (float(interval.low) + shift, float(interval.high) + shift) if varies else (None, None)
    how = "interval over trials" if varies else "no interval: one value"
    return Claim(name, label, estimate, low, high, len(by_trial), "trial", f"{method}; {how}", "", "number")


def _caveats(population: xr.Dataset, table: Any, dense: xr.Dataset | None) -> tuple[str, ...]:
    caveats = [
        "Sizes are of the weights under the stated encodings, without a container or entropy coding.",
    ]
    if "encoding" in population.coords and "own" in population["encoding"].values:
        caveats.append(
            'Encoding "own": each tensor in the number format that it has, codes of few bits at their bits, with a '
            "4-byte scale for each channel or group."
        )
    if dense is None:
        caveats.append("No dense trials: ratios to dense are undefined.")
    if "latency" in population:
        caveats.append(
            "Latency is that of this library's float32 simulation: integer kernels or kernels that skip zeros may be "
            "faster, and compression alone does not make the simulation so."
        )
    if "effective_flops" in population:
        caveats.append("Effective FLOPs are saved only on hardware that skips zeros.")
    if "size_ratio" in table and table["size_ratio"].isna().any():
        caveats.append("Some schemes state no encoding that keeps their weights: they have no size ratio.")
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Accuracy and the share of changed test examples against size."""
    table: Any = finding.tables["schemes"]
    x = "bytes" if "bytes" in table else "parameters"
    kept = {"test_accuracy": "test accuracy", "cie_rate": "share changed from dense"}
    shown = [name for name in kept if name in table] or ["nonzeros"]
    axes = panels(*[2.5] * len(shown))
    for place, name in enumerate(shown):
        for number, row in enumerate(table.to_dict(orient="records")):
            style = {"marker": "osD^vP*X"[number % 8], "color": SERIES[number % len(SERIES)], "linestyle": "none"}
            reach = None
            if name == "test_accuracy" and np.isfinite(row["low"]):
                reach = [[row[name] - row["low"]], [row["high"] - row[name]]]
            axes[place].errorbar(
                row[x] / 1000 if x == "bytes" else row[x],
                row[name],
                yerr=reach,
                capsize=2,
                label=row["scheme"],
                **style,
            )
        _logarithmic(axes[place])
        axes[place].set_ylabel(kept.get(name, name))
    axes[-1].set_xlabel("kilobytes in the smallest lossless encoding" if x == "bytes" else x)
    axes[0].legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.45, 1))
    return axes[0]


def _logarithmic(axes: Any) -> None:
    """A logarithmic x axis with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


ANALYSIS = Analysis(
    name="footprint",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("parameters", "nonzeros", "bytes"),
    cites=(),
    pace=0.1,
)
