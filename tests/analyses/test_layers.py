import numpy as np
import pandas as pd
import pytest
import xarray as xr

from remnant.analyses.layers import ANALYSIS, plot, run
from remnant.finding import Finding, NotApplicable
from remnant.population import SchemaError
from remnant.stats.rates import newcombe_paired, wilson
from remnant.stats.trial_intervals import mean_interval
from remnant.stored_array import pack_text

LAYERS = ["stem", "body.conv", "head"]
SCHEME, OTHER = "one-shot-pruning(sparsity=0.9)", "static-int8"


def simulated(*, seeds=3, examples=200, harm=(0.02, 0.3, 0.05), schemes=(SCHEME, OTHER), seed=0):
    """Models of which each layer, compressed, loses a share of the answers: the first ones, the next ones, and so on.

    All layers compressed lose what any of them loses; one restored brings back what it alone has lost.
    """
    rng = np.random.default_rng(seed)
    label = np.arange(examples) % 4
    dense: list = []
    rows, answers, measured = [], [], {name: [] for name in ("alone", "restored", "noise")}
    for scheme in ("dense", *schemes):
        for number in range(seeds):
            right = rng.random(examples) < 0.9
            base = np.where(right, label, (label + 1) % 4)
            shares = np.array(harm if scheme == SCHEME else [0.0] * 3)
            losers = rng.permutation(np.repeat([0, 1, 2, -1], [*map(round, shares * examples), examples])[:examples])
            base = base if scheme == "dense" else dense[number]
            alone = np.stack([np.where(losers == k, (base + 2) % 4, base) for k in range(3)])
            lost = np.where(losers >= 0, (base + 2) % 4, base)
            restored = np.stack([np.where(losers == k, base, lost) for k in range(3)])
            rows.append((scheme, number))
            answers.append(lost)
            if scheme == "dense":
                dense.append(lost)
            measured["alone"].append(alone.T)
            measured["restored"].append(restored.T)
            measured["noise"].append(np.tile(shares / 10 + 1e-3, (examples, 1)))
    trials = [f"{scheme}/{number}" for scheme, number in rows]
    coords = {
        "trial": trials,
        "scheme": ("trial", [scheme for scheme, _ in rows]),
        "seed": ("trial", [number for _, number in rows]),
        "subset": ("trial", [-1] * len(rows)),
        "example": [f"test-{k}" for k in range(examples)],
        "class": list("abcd"),
    }
    quantized = np.array([scheme == OTHER for scheme, _ in rows])[:, None]
    shape = (len(rows), examples, 3)
    logits = np.eye(4, dtype=np.float32)[np.array(answers)]
    found = xr.Dataset({"logits": (("trial", "example", "class"), logits), "label": ("example", label)}, coords=coords)
    names = np.tile(pack_text(LAYERS), (len(rows), 1))
    probe = xr.Dataset(
        {
            "alone": (("trial", "example", "layer"), np.array(measured["alone"], np.int16)),
            "restored": (("trial", "example", "layer"), np.array(measured["restored"], np.int16)),
            "signal": (("trial", "example", "layer"), np.ones(shape, np.float32)),
            "local_noise": (("trial", "example", "layer"), np.array(measured["noise"], np.float32)),
            "accumulated_noise": (("trial", "example", "layer"), np.array(measured["noise"], np.float32) * 2),
            "weights_only": (("trial", "example"), np.where(quantized, answers, -1).astype(np.int16)),
            "activations_only": (("trial", "example"), np.where(quantized, answers, -1).astype(np.int16)),
            "exchange": (("trial", "layer"), np.ones((len(rows), 3), np.uint8)),
            "reference_bytes": (("trial", "layer"), np.tile([100, 400, 40], (len(rows), 1))),
            "compressed_bytes": (("trial", "layer"), np.tile([50, 60, 40], (len(rows), 1))),
            "names": (("trial", "character"), names),
            "label": ("example", label),
        },
        coords=coords,
    )
    return found.assign_attrs(probes={"layers": probe})


def table_of(finding, scheme=SCHEME):
    table = finding.tables["layers"]
    return table.loc[table["scheme"] == scheme].set_index("layer")


def test_the_harmful_layer_comes_first():
    finding = run(simulated())
    table = table_of(finding)
    assert table.index.tolist() == ["body.conv", "head", "stem"]
    assert table["place"].tolist() == [2, 3, 1]
    row = finding.tables["schemes"].set_index("scheme").loc[SCHEME]
    assert (row["worst_layer_alone"], row["best_layer_restored"]) == ("body.conv", "body.conv")
    claim = finding.claim("layer_cie_u_rate", SCHEME, "body.conv")
    assert claim.estimate == pytest.approx(0.27, abs=0.03)
    assert claim.low is not None
    assert claim.high is not None
    assert claim.low < claim.estimate < claim.high
    change = finding.claim("restored_cie_u_change", SCHEME, "body.conv")
    assert change.estimate == pytest.approx(-claim.estimate)
    # Harm that adds up: no example is lost by two layers.
    assert finding.claim("layers_cie_u_sum_ratio", SCHEME).estimate == pytest.approx(1)


def test_counts_agree_with_a_loop():
    population = simulated(seeds=2)
    probe = population.attrs["probes"]["layers"]
    table = table_of(run(population))
    predicted = population["logits"].values.argmax(2)
    label = population["label"].values
    for k, layer in enumerate(LAYERS):
        lost, left, back = [], [], []
        for pair in range(2):
            base, own = predicted[pair], predicted[2 + pair]
            alone, restored = (probe[name].values[2 + pair, :, k] for name in ("alone", "restored"))
            lost.append(sum(y == r != a for y, r, a in zip(label, base, alone, strict=True)))
            left.append(sum(b != r for r, b in zip(base, restored, strict=True)))
            back.append(sum(y == r != c and b == y for y, r, c, b in zip(label, base, own, restored, strict=True)))
        assert table.loc[layer, "cie_u_alone"] == pytest.approx(np.mean(lost))
        assert table.loc[layer, "cie_restored"] == pytest.approx(np.mean(left))
        assert table.loc[layer, "regained"] == pytest.approx(np.mean(back))


def test_intervals_are_over_pairs():
    population = simulated(seeds=4)
    claim = run(population).claim("layer_cie_u_rate", SCHEME, "body.conv")
    probe = population.attrs["probes"]["layers"]
    predicted, label = population["logits"].values.argmax(2), population["label"].values
    rates = [
        np.mean((predicted[k] == label) & (probe["alone"].values[4 + k, :, 1] != label)) for k in range(4)
    ]  # fmt: skip
    expected = mean_interval(np.array(rates))
    assert (claim.low, claim.high) == pytest.approx((float(expected.low), float(expected.high)))
    assert (claim.n, claim.unit) == (4, "pair")


def test_intervals_of_a_single_pair_are_over_examples():
    population = simulated(seeds=1)
    finding = run(population)
    claim = finding.claim("layer_cie_u_rate", SCHEME, "body.conv")
    low, high = wilson(round(claim.estimate * 200), 200)
    assert (claim.low, claim.high, claim.n, claim.unit) == (float(low), float(high), 200, "example")
    change = finding.claim("restored_cie_u_change", SCHEME, "body.conv")
    before = round(finding.claim("probed_cie_u_rate", SCHEME).estimate * 200)
    after = before + round(change.estimate * 200)
    assert (change.low, change.high) == pytest.approx(newcombe_paired(after, 0, before - after, 200 - before))
    assert any("one pair of models" in caveat for caveat in finding.caveats)


def test_compression_that_changes_nothing_loses_nothing():
    finding = run(simulated())
    table = table_of(finding, OTHER)
    for column in ("cie_alone", "cie_u_alone", "cie_restored", "cie_u_restored", "regained", "broken"):
        assert (table[column] == 0).all()
    for claim in finding.claims:
        if claim.subject == OTHER and claim.scale in ("share", "points"):
            assert claim.estimate == 0
    assert not [
        claim for claim in finding.claims if claim.quantity == "layers_cie_u_sum_ratio" and claim.subject == OTHER
    ]


def test_decibels_of_known_powers():
    table = table_of(run(simulated()))
    expected = {"stem": 0.003, "body.conv": 0.031, "head": 0.006}
    for layer, noise in expected.items():
        assert table.loc[layer, "local_snr_db"] == pytest.approx(-10 * np.log10(noise), abs=1e-3)
        assert table.loc[layer, "accumulated_snr_flipped_db"] == pytest.approx(-10 * np.log10(2 * noise), abs=1e-3)
    claim = run(simulated()).claim("layer_local_snr_least", SCHEME)
    assert claim.detail == "body.conv"


def test_halves_of_quantization_are_there_for_quantized_schemes_only():
    finding = run(simulated())
    assert finding.claim("weights_only_cie_u_rate").subject == OTHER
    assert finding.claim("activations_only_cie_u_rate").subject == OTHER


def test_layers_that_cannot_be_exchanged_are_named():
    population = simulated()
    probe = population.attrs["probes"]["layers"]
    of_scheme = probe["scheme"].values == SCHEME
    for name in ("alone", "restored", "local_noise", "signal", "accumulated_noise"):
        probe[name].values[of_scheme, :, 0] = -1
    probe["compressed_bytes"].values[of_scheme, 0] = -1
    finding = run(population)
    table = table_of(finding)
    assert not bool(table["exchanged"].tolist()[-1])
    assert np.isnan(table.loc["stem", ["cie_alone", "local_snr_db", "compressed_bytes"]].astype(float)).all()
    assert table.index[-1] == "stem"
    assert any("1 of 3 layers cannot be exchanged" in caveat and "'stem'" in caveat for caveat in finding.caveats)
    assert not [claim for claim in finding.claims if claim.detail == "stem" and claim.subject == SCHEME]


def test_examples_say_which_layer_brings_them_back():
    table = run(simulated(seeds=1)).tables["examples"]
    assert set(table["scheme"]) == {SCHEME}
    assert set(table["layers_that_bring_it_back"]) == {1}
    assert table["most_often"].value_counts().idxmax() == "body.conv"


def test_claims_are_on_so_many_layers_as_asked():
    finding = run(simulated(), top=1)
    assert len([claim for claim in finding.claims if claim.quantity == "layer_cie_u_rate"]) == 2
    assert len(run(simulated(), rows=3).tables["examples"]) == 3


def test_schemes_trained_on_their_own_carry_a_warning():
    population = simulated(schemes=("magnitude-pruning(sparsity=0.9)",))
    assert any("trained on its own" in caveat for caveat in run(population).caveats)
    assert not any("trained on its own" in caveat for caveat in run(simulated()).caveats)


def test_another_reference_is_refused():
    with pytest.raises(NotApplicable, match="Expected the reference to be 'dense'"):
        run(simulated(), reference=OTHER)


def test_without_the_probe_the_remedy_is_named():
    population = simulated()
    population.attrs["probes"] = {}
    with pytest.raises(SchemaError, match="remnant probe"):
        run(population)


@pytest.mark.parametrize("layers", [3, 40])
def test_the_picture_shows_few_enough_layers_to_read(layers):
    finding = run(simulated())
    table = finding.tables["layers"]
    own = table.loc[table["scheme"] == SCHEME]
    if layers > 3:
        many = [own.assign(layer=f"a.very.long.name.of.a.layer.{k}.conv", place=k) for k in range(layers // 3)]
        table = pd.concat([*many, table.loc[table["scheme"] == OTHER]], ignore_index=True)
    tables = finding.tables | {"layers": table}
    axes = plot(Finding("layers", "?", finding.parameters, finding.claims, tables))
    assert len(axes.get_yticks()) <= 14
    assert all(len(text.get_text()) <= 24 for text in axes.get_yticklabels())
    assert axes.figure.get_figwidth() <= 6
    assert ANALYSIS.plot is plot
