from itertools import combinations

import numpy as np
import pytest
import xarray as xr

from remnant.analyses import adversarial
from remnant.analyses.adversarial import example_columns, plot, run
from remnant.analyses.adversarial_measures import Check, check, headline, pairs, sides, transfer
from remnant.finding import Finding, NotApplicable
from remnant.population import SchemaError
from remnant.probes.adversarial import ABSENT, GRADIENTS
from remnant.stats.equivalence import tango_interval
from remnant.stats.paired import mcnemar_exact
from remnant.stats.rates import wilson
from remnant.stats.trial_intervals import mean_interval
from tests import simulate

INT8, PRUNED = "static-int8", "magnitude-pruning(sparsity=0.9)"
ATTACKS = ("fgsm", "pgd", "transfer", "square", "ensemble")
BUDGETS = (0.0, 1.0, 2.0, 4.0)
STRENGTH = {"fgsm": 1.0, "pgd": 1.6, "transfer": 1.3, "square": 0.5, "ensemble": 1.7}


def measured(
    *,
    effect: float = 0.0,
    schemes: tuple[str, ...] = ("dense", PRUNED),
    num_seeds: int = 5,
    examples: int = 120,
    masked: tuple[str, ...] = (),
    between_seeds: bool = False,
    seed: int = 0,
) -> xr.Dataset:
    """Answers of models whose examples lie at random distances from being wrong; `effect` shortens them by a share.

    Gradients of the `masked` schemes lead nowhere: fgsm and pgd break nothing.
    """
    rng = np.random.default_rng(seed)
    label = np.arange(examples) % 5
    common = rng.exponential(2.5, examples)
    trials = [(scheme, k) for scheme in schemes for k in range(num_seeds)]
    prediction = np.full((len(trials), examples, len(ATTACKS), len(BUDGETS)), ABSENT, np.int16)
    on_reference = prediction.copy()
    gradient = np.zeros((len(trials), examples, len(ATTACKS)), np.uint8)
    distances = {}
    for row, (scheme, k) in enumerate(trials):
        own = common * rng.lognormal(0, 0.3, examples) * (1 if scheme == "dense" else 1 - effect)
        distances[scheme, k] = np.where(rng.random(examples) < 0.1, -1, own)
        for column, attack in enumerate(ATTACKS):
            if attack == "transfer" and scheme == "dense" and not between_seeds:
                continue
            strength = 0 if scheme in masked and attack in ("fgsm", "pgd") else STRENGTH[attack]
            wrong = distances[scheme, k][:, None] < strength * np.array(BUDGETS)
            prediction[row, :, column] = np.where(wrong, (label[:, None] + 1) % 5, label[:, None])
            if scheme != "dense" or attack == "transfer":
                source = distances.get(("dense", k if scheme != "dense" else (k + 1) % num_seeds), common)
                weaker = STRENGTH["pgd"] if attack == "transfer" else 0.8 * strength
                wrong = source[:, None] < weaker * np.array(BUDGETS)
                on_reference[row, :, column] = np.where(wrong, (label[:, None] + 1) % 5, label[:, None])
            gradient[row, :, column] = 0 if attack == "square" else 1
    return xr.Dataset(
        {
            "prediction": (("trial", "example", "attack", "budget"), prediction),
            "on_reference": (("trial", "example", "attack", "budget"), on_reference),
            "gradient": (("trial", "example", "attack"), gradient),
            "label": (("example",), label),
        },
        coords={
            "trial": [f"{scheme}/{k}" for scheme, k in trials],
            "scheme": ("trial", [scheme for scheme, _ in trials]),
            "seed": ("trial", [k for _, k in trials]),
            "subset": ("trial", np.full(len(trials), -1)),
            "example": [f"test-{i:05}" for i in range(examples)],
            "attack": list(ATTACKS),
            "budget": list(BUDGETS),
            "class": [f"class {c}" for c in range(5)],
        },
    )  # fmt: skip


def population(dataset: xr.Dataset | None = None, **options) -> xr.Dataset:
    found = simulate.population(np.random.default_rng(0), num_seeds=2)
    return found.assign_attrs(probes={"adversarial": measured(**options) if dataset is None else dataset})


def right_of(dataset, scheme, attacks, *, name="prediction"):
    rows = dataset["scheme"].values == scheme
    values = dataset[name].values[rows][:, :, [ATTACKS.index(a) for a in attacks]]
    return (values == dataset["label"].values[:, None, None]).all(axis=2)


def strongest_of(dataset, scheme):
    own = ("fgsm", "pgd", "square", "ensemble")
    first = right_of(dataset, "dense", own) & right_of(dataset, scheme, ("pgd",), name="on_reference")
    return first, right_of(dataset, scheme, own) & right_of(dataset, scheme, ("transfer",))


def set_values(dataset, name, attacks, value):
    """The same value for some attacks on all int8 models."""
    rows = np.flatnonzero(dataset["scheme"].values == INT8)
    for attack in attacks:
        dataset[name].values[rows, :, attack] = value


def test_accuracy_under_the_strongest_attack_equals_a_count_by_hand():
    dataset = measured(effect=0.4)
    finding = run(population(dataset), budget=2.0)
    first, second = strongest_of(dataset, PRUNED)
    for quantity, expected in (
        ("attacked_accuracy_reference", first[..., 2].mean()),
        ("attacked_accuracy", second[..., 2].mean()),
        ("attacked_accuracy_change", second[..., 2].mean() - first[..., 2].mean()),
        ("clean_accuracy_change", second[..., 0].mean() - first[..., 0].mean()),
        ("attacked_accuracy_mean_change", second[..., 1:].mean() - first[..., 1:].mean()),
    ):
        claim = finding.claim(quantity, PRUNED)
        assert claim.estimate == pytest.approx(expected)
        assert (claim.n, claim.unit) == (5, "pair")
        assert None not in (claim.low, claim.high)
    interval = mean_interval(second[..., 2].mean(axis=1) - first[..., 2].mean(axis=1))
    claim = finding.claim("attacked_accuracy_change", PRUNED)
    assert (claim.low, claim.high) == pytest.approx((interval.low, interval.high))
    assert interval.high < 0
    assert claim.detail == "2/255"
    table = finding.to_frame()
    np.testing.assert_allclose(table["reference_accuracy"], first.mean(axis=(0, 1)))
    np.testing.assert_allclose(table["compressed_accuracy"], second.mean(axis=(0, 1)))
    assert (np.diff(table["compressed_accuracy"]) <= 0).all()


def test_no_attack_of_the_table_is_stronger_than_the_strongest():
    finding = run(population(effect=0.2))
    best = finding.to_frame().set_index("budget")
    for _, row in finding.tables["attacks"].iterrows():
        for side in ("reference_accuracy", "compressed_accuracy"):
            assert row[side] >= best.loc[row["budget"], side]
    assert set(finding.tables["attacks"]["attack"]) == set(ATTACKS)


def test_one_pair_has_intervals_over_examples():
    dataset = measured(effect=0.4, num_seeds=1)
    finding = run(population(dataset), budget=2.0)
    first, second = (one[0, :, 2] for one in strongest_of(dataset, PRUNED))
    claim = finding.claim("attacked_accuracy_change", PRUNED)
    lost, gained = (first & ~second).sum(), (second & ~first).sum()
    assert (claim.low, claim.high) == pytest.approx(tuple(map(float, tango_interval(lost, gained, 120))))
    assert (claim.n, claim.unit) == (120, "example")
    share = finding.claim("attacked_accuracy", PRUNED)
    assert (share.low, share.high) == pytest.approx(tuple(map(float, wilson(second.sum(), 120))))
    assert finding.claim("transfer_from_reference", PRUNED).unit == "example"
    assert any("one probed dense model" in caveat for caveat in finding.caveats)
    with pytest.raises(KeyError):
        finding.claim("attacked_accuracy_seed_difference")


def test_nothing_changes_against_itself():
    dataset = measured()
    rows = dataset["scheme"].values == PRUNED
    for name in ("prediction", "on_reference"):
        own = dataset["prediction"].values[~rows].copy()
        own[:, :, ATTACKS.index("transfer")] = own[:, :, ATTACKS.index("pgd")]
        dataset[name].values[rows] = own
    finding = run(population(dataset))
    for quantity in ("attacked_accuracy_change", "attacked_accuracy_mean_change", "clean_accuracy_change"):
        assert finding.claim(quantity, PRUNED).estimate == 0
    for direction in ("from", "to"):
        assert finding.claim(f"transfer_{direction}_reference", PRUNED).estimate == 1
    assert set(finding.tables["examples"]["withstood_change"].tolist()) == {0.0}
    assert finding.galleries == {}


def test_intervals_of_no_change_hold_it():
    """Under the null 95 % intervals over pairs hold 0 in 95 % of cases: of 100 at least 89 (binomial, p = 0.01)."""
    held = 0
    for seed in range(100):
        _, (pair,) = pairs(dataset := measured(num_seeds=6, seed=seed), population(dataset))
        first, second = pair.right("pgd")
        interval = mean_interval(second[..., 2].mean(axis=1) - first[..., 2].mean(axis=1))
        held += bool(interval.low <= 0 <= interval.high)
    assert held >= 89


def test_transfer_rates_equal_loops_over_examples():
    dataset = measured(effect=0.2)
    finding = run(population(dataset), budget=2.0)
    label = dataset["label"].values
    rates = {"from": [], "to": []}
    for row in np.flatnonzero(dataset["scheme"].values == PRUNED):
        ours, theirs = dataset["prediction"].values[row], dataset["on_reference"].values[row]
        for direction, attack, source, other in (("from", 2, theirs, ours), ("to", 1, ours, theirs)):
            fooled = eligible = 0
            for example, true in enumerate(label):
                if ours[example, attack, 0] == theirs[example, attack, 0] == true != source[example, attack, 2]:
                    eligible += 1
                    fooled += other[example, attack, 2] != true
            rates[direction].append(fooled / eligible)
    for direction, values in rates.items():
        claim = finding.claim(f"transfer_{direction}_reference", PRUNED)
        assert claim.estimate == pytest.approx(np.mean(values))
        table = finding.tables["transfer"]
        row = table[(table["direction"] == f"{direction} reference") & (table["budget"] == 2)]
        assert row["transfer_rate"].item() == pytest.approx(np.mean(values))
        assert row["transfer_rate_sd"].item() == pytest.approx(np.std(values, ddof=1))


def test_transfer_counts_only_what_both_had_right():
    source = np.array([[[1, 0], [1, 0], [0, 0], [1, 1]]], bool)
    other = np.array([[[1, 0], [1, 1], [1, 0], [1, 0]]], bool)
    found = transfer(source, other)
    assert found.eligible.tolist() == [[0, 2]]
    assert found.fooled.tolist() == [[0, 1]]
    assert found.rates(0).tolist() == []


def test_transfer_between_seeds_stands_beside_where_it_was_measured():
    without, having = run(population()), run(population(between_seeds=True))
    assert any("was not measured" in caveat for caveat in without.caveats)
    assert not any("was not measured" in caveat for caveat in having.caveats)
    claim = having.claim("transfer_between_seeds", "dense")
    assert 0 < claim.estimate <= 1
    assert "between seeds" in having.tables["transfer"]["direction"].tolist()
    assert "between seeds" not in without.tables["transfer"]["direction"].tolist()
    # What is between references does not enter what is within pairs.
    assert having.claim("attacked_accuracy", PRUNED) == without.claim("attacked_accuracy", PRUNED)


def test_difference_of_seeds_equals_the_mean_over_pairs_of_models():
    dataset = measured()
    finding = run(population(dataset), budget=4.0)
    accuracy = right_of(dataset, "dense", ("fgsm", "pgd", "square", "ensemble"))[..., 3].mean(axis=1)
    expected = np.mean([abs(a - b) for a, b in combinations(accuracy, 2)])
    assert finding.claim("attacked_accuracy_seed_difference", "dense").estimate == pytest.approx(expected)


def test_attacks_that_lead_nowhere_are_told_from_robustness():
    dataset = measured(masked=(INT8,), schemes=("dense", INT8, PRUNED))
    finding = run(population(dataset))
    table = finding.to_frame()
    flagged = dict(zip(table["scheme"].tolist(), table["masked_gradients"].tolist(), strict=True))
    assert flagged == {INT8: True, PRUNED: False}
    assert finding.claim("black_box_only", INT8).detail == "gradients are outdone"
    assert finding.claim("black_box_only", INT8).estimate > 0.2
    assert finding.claim("black_box_only", PRUNED).detail == ""
    (caveat,) = [c for c in finding.caveats if c.startswith("Masked gradients")]
    assert INT8 in caveat
    # The strongest attack holds what random search and transfer find.
    assert finding.claim("attacked_accuracy", INT8).estimate < 0.7
    along = right_of(dataset, INT8, ("fgsm", "pgd"))
    without = [right_of(dataset, INT8, (attack,)) for attack in ("square", "transfer")]
    both = without[0] & without[1]
    found = check(sides(dataset)[INT8])
    only = [(along & ~both).sum(axis=(0, 1)), (both & ~along).sum(axis=(0, 1))]
    assert found.black_box_only.tolist() == only[0].tolist()
    assert found.gradients_only.tolist() == only[1].tolist()
    np.testing.assert_array_equal(found.p, mcnemar_exact(only[1], only[0]))


def test_a_few_more_by_black_box_attacks_are_chance():
    def found(gradients_only, black_box_only):
        one, two = np.array([gradients_only] * 4), np.array([black_box_only] * 4)
        return Check(("own",), one, two, mcnemar_exact(one, two))

    # McNemar's exact p is 0.0352 for 2 and 10: below 0.05, but above 0.05 / 4. For 0 and 10 it is 0.002.
    assert not found(2, 10).masked
    assert found(0, 10).masked
    assert not found(10, 0).masked
    assert not found(0, 0).masked


@pytest.mark.parametrize(
    ("code", "words"), [("straight-through", "straight-through"), ("reference", "of the reference model instead")]
)
def test_models_without_gradients_of_their_own_are_named(code, words):
    dataset = measured(schemes=("dense", INT8))
    set_values(dataset, "gradient", (0, 1, 4), GRADIENTS.index(code))
    finding = run(population(dataset))
    claim = finding.claim("masked_gradient_models", INT8)
    assert (claim.estimate, claim.detail) == (5, code)
    (caveat,) = [c for c in finding.caveats if c.startswith("Masked gradients")]
    assert words in caveat
    assert finding.to_frame()["masked_gradients"].tolist() == [True] * 4


def test_attacks_on_masked_gradients_are_left_out():
    dataset = measured(schemes=("dense", INT8), masked=(INT8,))
    set_values(dataset, "gradient", (0, 1, 4), GRADIENTS.index("masked"))
    set_values(dataset, "prediction", (1, 4), 4)  # would count as wrong
    finding = run(population(dataset))
    assert set(finding.tables["attacks"]["attack"]) == {"square"}
    assert finding.claim("masked_gradient_models", INT8).estimate == 5
    assert any("are left out" in caveat for caveat in finding.caveats)
    square = right_of(dataset, INT8, ("square",)).mean(axis=(0, 1))
    np.testing.assert_allclose(finding.to_frame()["compressed_accuracy"], square)


def test_the_budget_is_chosen_on_the_reference_alone():
    right = np.zeros((1, 100, 4), bool)
    for place, number in enumerate((80, 60, 45, 10)):
        right[0, :number, place] = True
    assert headline(right) == 2
    mild, harsh = (run(population(effect=effect)).parameters["budget"] for effect in (0.0, 0.8))
    assert mild == harsh


def test_examples_say_what_they_withstand():
    dataset = measured(effect=0.5)
    found = population(dataset)
    first, second = strongest_of(dataset, PRUNED)
    columns = example_columns(found, PRUNED)
    ids, values = columns["adversarial_withstood"]
    assert ids.tolist() == dataset["example"].values.tolist()
    np.testing.assert_allclose(values, first[..., 1:].mean(axis=(0, 2)))
    np.testing.assert_allclose(columns["adversarial_withstood_change"][1], (second * 1.0 - first)[..., 1:].mean((0, 2)))
    assert example_columns(found, "float16") == {}
    finding = run(found, rows=30)
    table = finding.tables["examples"]
    assert len(table) == 30
    assert table["withstood_change"].is_monotonic_increasing
    (title,) = finding.galleries
    exhibits = finding.galleries[title]
    assert title == f"Easiest to attack after compression: {PRUNED}"
    assert 0 < len(exhibits) <= 12
    assert all(exhibit.lines[0].startswith("true: class") for exhibit in exhibits)
    assert all(exhibit.value is not None and exhibit.value < 0 for exhibit in exhibits)


def test_order_of_examples_and_trials_does_not_matter():
    dataset = measured(effect=0.3)
    rng = np.random.default_rng(1)
    mixed = dataset.isel(trial=rng.permutation(10), example=rng.permutation(120), attack=[3, 0, 4, 2, 1])
    first, second = run(population(dataset)), run(population(mixed))
    for one, two in zip(first.claims, second.claims, strict=True):
        assert (one.quantity, one.subject) == (two.quantity, two.subject)
        assert one.estimate == pytest.approx(two.estimate)


def test_seeds_without_a_partner_are_left_out_and_said():
    dataset = measured().isel(trial=[0, 1, 2, 3, 5, 6, 7, 8, 9])
    finding = run(population(dataset))
    assert finding.claim("attacked_accuracy_change", PRUNED).n == 4
    assert any(f"{PRUNED} (1)" in caveat for caveat in finding.caveats)


def test_what_cannot_be_asked_says_why():
    with pytest.raises(SchemaError, match="remnant probe STORE adversarial"):
        run(simulate.population(np.random.default_rng(0)))
    with pytest.raises(NotApplicable, match="reference 'dense' and of a compressed scheme, but the probe saw"):
        run(population(schemes=("dense",)))
    with pytest.raises(NotApplicable, match="the probe saw"):
        run(population(), reference="float16")
    apart = measured()
    apart["seed"].values[5:] += 100
    with pytest.raises(NotApplicable, match="to have seeds of the reference"):
        run(population(apart))
    with pytest.raises(NotApplicable, match="Expected an attack on both"):
        run(population(measured().isel(attack=[2])))
    with pytest.raises(ValueError, match=r"Expected `budget` to be one of those probed, \[1.0, 2.0, 4.0\], but got 3"):
        run(population(), budget=3)


def test_the_finding_survives_json_and_is_drawn_from_its_tables():
    finding = run(population(masked=(INT8,), schemes=("dense", INT8, PRUNED)))
    again = Finding.from_dict(finding.to_dict())
    assert again.to_json() == finding.to_json()
    axes = plot(again)
    assert len(axes.get_lines()) == 3
    _, int8, pruned = axes.get_lines()
    assert int8.get_markerfacecolor() == "none"
    assert pruned.get_markerfacecolor() != "none"
    np.testing.assert_allclose(pruned.get_ydata(), 100 * finding.to_frame()["compressed_accuracy"].to_numpy()[4:])
    assert adversarial.ANALYSIS.needs == ("adversarial",)
