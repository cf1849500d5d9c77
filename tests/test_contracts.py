"""What every analysis owes, also one from another package; see also tests/lab/test_scheme_contracts.py."""

import atexit
import json
import shutil
import tempfile
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import remnant
from remnant import execute
from remnant.analyses import ANALYSES, analysis
from remnant.finding import Finding
from remnant.probes import PROBES
from remnant.probes import from_dict as probe
from remnant.registry import names
from remnant.store import Store
from tests import simulate

COPY = "magnitude-pruning(sparsity=0.9)"
SELECTED = "selected-data(method=random, share=0.5, selection=0123456789abcdef)"
SCHEMES = {"dense": 0.0, COPY: 0.4, "static-int8": 0.0, SELECTED: 0.2}
NO_DIFFERENCE = {
    "cie_rate": 0,
    "cie_u_rate": 0,
    "net_accuracy_change": 0,
    "gross_accuracy_change": 0,
    "top1_agreement": 1,
    "kl_mean": 0,
    "kl_max": 0,
    "prediction_distance_p": 1,
    "pie_count": 0,
    "pie_count_p": 1,
    "pie_confirmed": 0,
    "shifted_examples": 0,
    "significant_classes": 0,
    "significant_classes_q": 0,
    "significant_classes_p": 1,
    "worst_class_change": 0,
    "worst_group_change": 0,
    "mean_memorization_change": 0,
    "test_accuracy_change": 0,
    "generalization_gap_change": 0,
    "membership_auc_change": 0,
    "membership_tpr_at_0_1_percent_fpr_change": 0,
    "membership_tpr_at_1_percent_fpr_change": 0,
    "ece_change": 0,
    "ece_equal_mass_change": 0,
    "ece_debiased_change": 0,
    "brier_change": 0,
    "nll_change": 0,
    "mean_confidence_change": 0,
    "overconfidence_change": 0,
    "misclassification_cost": 0,
    "mistake_cost_change": 0,
}
"""Quantities that compare a scheme with the dense models, and their value for a copy of them."""
UNITS = {"example", "train_example", "trial", "pair", "class", "group", "permutation"}

PARAMETERS: dict[str, dict[str, Any]] = {
    "league": {"least_sides": 1},
    "natural_adversarial": {"where": "site=A"},
}
"""What an analysis is asked with where there is one compressed scheme only."""
FLOORS = {"floor": "static-int8"}
"""Analyses that need a side that is the reference run again, and which one is said to be it."""

OTHER_NULLS = {"explained_auc_p"}
"""Their null is not that nothing was compressed: which answers change can be foreseen for two seeds as well."""

MAY_BE_EMPTY = {"probable_pairs"}
"""The simulated models have no influence, so that no pair need be likely to have any."""

everyone = pytest.mark.parametrize("name", [n for n in names("analysis", ANALYSES) if analysis(n).asks != "findings"])


def population(seed=0, *, schemes=None, copy=False, **options):
    """A population with trials on the whole set and, for dense and pruned models, on the same subsets."""
    rng = np.random.default_rng(seed)
    options = {"num_seeds": 6, "num_subset_trials": 24, "num_examples": 120, "num_train": 60, **options}
    found = simulate.population(rng, schemes=schemes or SCHEMES, **options)
    found.attrs["codings"] = [coding(label) for label in np.unique(found["scheme"].values) if label != "dense"]
    if not copy:
        return found
    dense = found.isel(trial=found["scheme"].values == "dense")
    ids = [f"{COPY}/{name}" for name in dense["trial"].values]
    twin = dense.assign_coords(trial=ids, scheme=("trial", [COPY] * len(ids)))
    kept = found.isel(trial=found["scheme"].values == SELECTED)
    return xr.concat(
        [dense, twin, kept], dim="trial", data_vars="minimal", coords="minimal", compat="override", join="override"
    )


def probes_of(name):
    """The probes that an analysis needs."""
    return [need for need in analysis(name).needs if need in PROBES]


def population_for(name, *, copy=False):
    """A population that the analysis can be asked of; with `copy`, one scheme is the dense models again."""
    if not probes_of(name):
        return population(copy=copy)
    found = probed_population()
    if not copy:
        return found
    probes = {kind: twinned(measured) for kind, measured in found.attrs["probes"].items()}
    return twinned(found).assign_attrs(probes=probes)


def twinned(found):
    """The dense trials, and these once more as a compressed scheme."""
    dense = found.isel(trial=found["scheme"].values == "dense")
    ids = [f"{COPY}/{name}" for name in dense["trial"].values]
    twin = dense.assign_coords(trial=ids, scheme=("trial", [COPY] * len(ids)))
    how: Any = {"data_vars": "minimal", "coords": "minimal", "compat": "override", "join": "override"}
    return xr.concat([dense, twin], dim="trial", **how).assign_attrs(dense.attrs)


@cache
def probed_population():
    """Digits classifiers with every probe, measured for real on a few examples."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    store = Store(folder)
    recipe = remnant.Recipe("digits", "mlp-16", epochs=2)
    trials = remnant.grid(recipe, [remnant.MagnitudePruning(0.9), remnant.StaticInt8()], seeds=range(3))
    remnant.run(trials, store, engine="serial")
    few = {"corruptions": {"corruptions": ["fog", "shot_noise"]}, "adversarial": {"queries": 20}}
    probes = [probe({"kind": kind, "examples": 60, **few.get(kind, {})}) for kind in PROBES if kind != "confidence"]
    execute.probe(trials, probes, store, engine="serial")
    found = remnant.load(store)
    found.attrs["probes"] = {kind: found.attrs["probes"][kind].load() for kind in found.attrs["probes"]}
    labels = found["scheme"].values.astype(object)
    found["scheme"] = ("trial", [COPY if name.startswith("magnitude") else name for name in labels])
    for measured in found.attrs["probes"].values():
        same = [COPY if name.startswith("magnitude") else name for name in measured["scheme"].values.tolist()]
        measured["scheme"] = ("trial", same)
    return found


def coding(label):
    """What is known of a side whose images a codec decoded."""
    sizes = {"with headers": 900, "headers shared": 500, "entropy-coded": 400}
    return {"scheme": label, "codec": "jpeg", "images": 10, "values": 1000, "bytes": sizes, "psnr": 30.0, "ssim": 0.9}


def ask(name, found):
    """The finding of an analysis on a population."""
    return analysis(name).run(found, **PARAMETERS.get(name, {}))


def with_floor(name, found, floor=None):
    """The population, with one scheme said to be the reference run again where the analysis needs it."""
    return found.assign_attrs(floor=floor or FLOORS[name]) if name in FLOORS else found


def claims(finding):
    """Claims by quantity and subject."""
    return {(claim.quantity, claim.subject): claim for claim in finding.claims}


@everyone
def test_no_difference_between_a_population_and_itself(name):
    found = ask(name, with_floor(name, population_for(name, copy=True), COPY))
    seen = claims(found)
    for (quantity, subject), claim in seen.items():
        if subject != COPY:
            continue
        if quantity in NO_DIFFERENCE:
            assert claim.estimate == pytest.approx(NO_DIFFERENCE[quantity], abs=1e-9), quantity
        elif (quantity, "dense") in seen:
            assert claim.estimate == pytest.approx(seen[quantity, "dense"].estimate), quantity


@everyone
def test_order_of_trials_is_irrelevant(name):
    found = with_floor(name, population_for(name))
    order = np.random.default_rng(1).permutation(found.sizes["trial"])
    first, second = (ask(name, p) for p in (found, found.isel(trial=order)))
    one, two = claims(first), claims(second)
    assert one.keys() == two.keys()
    for key, claim in one.items():
        assert two[key].estimate == pytest.approx(claim.estimate, rel=1e-6, abs=1e-9), key
        for end in ("low", "high"):
            expected = getattr(claim, end)
            assert getattr(two[key], end) == (
                expected if expected is None else pytest.approx(expected, rel=1e-5, abs=1e-9)
            )
    assert first.tables.keys() == second.tables.keys()
    for table, frame in first.tables.items():
        assert sorted(frame.columns) == sorted(second.tables[table].columns)
        assert len(frame) == len(second.tables[table])


@everyone
def test_same_seed_same_finding(name):
    found = with_floor(name, population_for(name))
    assert ask(name, found).to_dict() == ask(name, found).to_dict()


@everyone
def test_the_population_is_not_changed(name):
    found = with_floor(name, population_for(name))
    before = found.copy(deep=True)
    ask(name, found)
    assert found.identical(before)


@everyone
def test_claims_say_what_they_count(name):
    finding = ask(name, with_floor(name, population_for(name)))
    assert finding.analysis == name
    assert finding.claims
    assert finding.question.endswith("?")
    keys = [(claim.quantity, claim.subject, claim.detail) for claim in finding.claims]
    assert len(set(keys)) == len(keys)
    for claim in finding.claims:
        assert claim.unit in UNITS, claim
        assert claim.n >= 1, claim
        assert claim.method, claim
        assert claim.scale in {"count", "share", "points", "number", "p"}, claim
        assert (claim.low is None) == (claim.high is None), claim
        assert claim.subject in {*SCHEMES, "population"}, claim
        if claim.low is not None and claim.high is not None:
            assert claim.low <= claim.high, claim
        if claim.scale == "p":
            assert 0 <= claim.estimate <= 1, claim


@everyone
def test_findings_survive_json(name):
    finding = ask(name, with_floor(name, population_for(name)))
    restored = Finding.from_dict(json.loads(finding.to_json()))
    assert restored.to_dict() == finding.to_dict()
    assert restored.claims == finding.claims
    assert restored.galleries == finding.galleries
    for table, frame in finding.tables.items():
        assert len(frame) or table in MAY_BE_EMPTY, f"table {table!r} is empty"
        pd.testing.assert_frame_equal(
            restored.tables[table], frame.reset_index(drop=True), check_dtype=False, check_exact=False
        )


@everyone
def test_the_picture_is_drawn_from_the_finding_alone(name):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.axes import Axes

    finding = ask(name, with_floor(name, population_for(name)))
    axes = Finding.from_dict(finding.to_dict()).plot()
    first = axes if isinstance(axes, Axes) else np.ravel(axes)[0]
    figure: Any = first.get_figure(root=True)
    figure.canvas.draw()
    assert figure.get_supxlabel() or any(panel.get_xlabel() for panel in figure.axes)
    assert any(panel.has_data() for panel in figure.axes)
    assert figure.patch.get_alpha() == 0 or figure.get_facecolor()[3] == 0
    for text in figure.findobj(match=lambda artist: artist.__class__.__name__ == "Text"):
        assert "nan" not in text.get_text()
    pyplot.close(figure)


@everyone
def test_p_values_of_a_null_population_are_not_too_small(name):
    """Dense and compressed models of one process, drawn again and again.

    Exact tests of counts are conservative, so p may lie above uniform but not below it.
    """
    if probes_of(name):
        pytest.skip("analyses of probes are calibrated in tests of their own")
    found: dict[tuple[str, str], list[float]] = {}
    num = 40
    compressed = SELECTED if name == "sufficiency" else COPY
    for seed in range(num):
        null = population(
            seed,
            schemes={"dense": 0.0, compressed: 0.0},
            num_seeds=6,
            num_subset_trials=8,
            num_examples=60,
            num_train=20,
        )
        for claim in ask(name, with_floor(name, null, COPY)).claims:
            if claim.scale == "p" and claim.quantity not in OTHER_NULLS:
                found.setdefault((claim.quantity, claim.subject), []).append(claim.estimate)
    for quantity, p in found.items():
        for level in (0.05, 0.2, 0.5):
            most = stats.binom.ppf(0.999, len(p), level)
            assert np.count_nonzero(np.array(p) <= level) <= most, (quantity, level, sorted(p))
