import numpy as np
import pytest

from remnant.analyses.comparison import attributes, comparisons, exchange, is_derived, mean_claim, stream
from remnant.finding import NotApplicable
from remnant.population import SchemaError
from tests import simulate

PRUNED = "magnitude-pruning(sparsity=0.9)"


def rng():
    return np.random.default_rng(0)


def only(label, **options):
    found = simulate.population(rng(), schemes={"dense": 0.0, label: 0.0}, **options)
    return comparisons(found, "dense")[0]


def test_trials_stand_in_order_of_their_seeds():
    population = simulate.population(rng(), num_seeds=5, num_subset_trials=3)
    shuffled = population.isel(trial=rng().permutation(population.sizes["trial"]))
    (a,), (b,) = comparisons(population, "dense"), comparisons(shuffled, "dense")
    assert a.num_first == a.num_second == 5
    np.testing.assert_array_equal(a.first, b.first)
    np.testing.assert_array_equal(a.second, b.second)


@pytest.mark.parametrize(
    ("label", "derived"),
    [
        ("static-int8(calibration=10)", True),
        ("one-shot-pruning(sparsity=0.5)", True),
        ("float16", True),
        (PRUNED, False),
        ("magnitude-pruning(sparsity=0.5) + dynamic-int8", False),
        ("somebody's int8", None),
    ],
)
def test_derived_schemes_are_told_by_their_label(label, derived):
    assert is_derived(label) is derived


def test_what_is_exchangeable_depends_on_how_the_scheme_is_made():
    assert exchange(only(PRUNED), "auto", rng()).kind == "free"
    assert exchange(only("static-int8"), "auto", rng()).kind == "paired"
    assert exchange(only("somebody's int8"), "auto", rng()).kind == "paired"
    assert exchange(only("static-int8"), "free", rng()).kind == "free"
    assert exchange(only(PRUNED), "paired", rng()).kind == "paired"
    with pytest.raises(ValueError, match="Expected `null` to be one of"):
        exchange(only(PRUNED), "none", rng())  # pyright: ignore[reportArgumentType]


def test_seeds_that_agree_make_pairs():
    population = simulate.population(rng(), num_seeds=8)
    logits = population["logits"].values
    logits[8:] = logits[:8] + rng().normal(0, 0.2, logits[:8].shape)
    (comparison,) = comparisons(population, "dense")
    found = exchange(comparison, "auto", rng())
    assert found.kind == "paired"
    assert "same seed agree" in found.reason


def test_other_seeds_are_no_pairs():
    for label, kind in (("somebody's int8", "free"), (PRUNED, "free")):
        population = simulate.population(rng(), schemes={"dense": 0.0, label: 0.0}, num_seeds=5)
        seeds = population["seed"].values.copy()
        seeds[5:] += 100
        (comparison,) = comparisons(population.assign_coords(seed=("trial", seeds)), "dense")
        assert exchange(comparison, "auto", rng()).kind == kind
    population = simulate.population(rng(), schemes={"dense": 0.0, "static-int8": 0.0}, num_seeds=5)
    (comparison,) = comparisons(population.isel(trial=slice(0, 9)), "dense")
    with pytest.raises(SchemaError, match="same seeds on both sides"):
        exchange(comparison, "auto", rng())


def test_missing_sides_are_named():
    population = simulate.population(rng(), num_seeds=2)
    with pytest.raises(NotApplicable, match="reference 'teacher'.*'dense'"):
        comparisons(population, "teacher")
    with pytest.raises(NotApplicable, match="compressed scheme beside 'dense'"):
        comparisons(population.isel(trial=[0, 1]), "dense")
    with pytest.raises(NotApplicable, match=r"at least 2 models.*'dense' has 1.*more seeds"):
        comparisons(population.isel(trial=[0, 2, 3]), "dense", least=2)
    with pytest.raises(SchemaError, match="same seeds on both sides"):
        comparisons(population.isel(trial=[0, 1, 2]), "dense", pairs=True)


def test_streams_differ_by_name_and_seed_and_repeat():
    draws = {(s, n): stream(s, n).random() for s in (0, 1) for n in ("a", "b")}
    assert len(set(draws.values())) == 4
    assert stream(0, "a").random() == draws[0, "a"]


def test_measurements_are_no_groups():
    population = simulate.population(rng(), num_examples=200)
    population = population.assign_coords(
        group_width=("example", rng().random(200)),
        group_constant=("example", np.zeros(200)),
        group_number=("example", np.arange(200) % 3),
    )
    found = {group.name: group.levels for group in attributes(population)}
    assert found == {"site": ("A", "B"), "number": ("0", "1", "2")}


def test_levels_are_those_of_sorted_texts(monkeypatch):
    """In blocks and without copies of all texts, the same levels and order as numpy.unique on texts."""
    monkeypatch.setattr("remnant.analyses.comparison._ROWS", 150)
    population, n = simulate.population(rng(), num_examples=600, num_seeds=1), 600
    columns = {
        "object": np.array([f"level {i % 7}" for i in range(n)], object),
        "text": np.array(["b", "a", "ccc"])[np.arange(n) // 250],
        "number": np.arange(n) % 12,
        "half": (np.arange(n) % 3) / 2,
        "flag": np.arange(n) % 2 == 0,
    }
    population = population.assign_coords({f"group_{name}": ("example", c) for name, c in columns.items()})
    many = {"group_id": ("example", np.arange(n)), "group_name": ("example", np.arange(n).astype(str))}
    found = {group.name: group for group in attributes(population.assign_coords(many))}
    assert set(found) == {"site", *columns}
    for name, values in columns.items():
        levels, index = np.unique(values.astype(str), return_inverse=True)
        assert found[name].levels == tuple(levels.tolist())
        np.testing.assert_array_equal(found[name].index, index)


def test_mean_claims_have_an_interval_where_there_is_spread():
    claim = mean_claim("q", "s", np.array([0.0, 0.02]), "pair", method="mean")
    assert (claim.low, claim.n, claim.unit) == (0.0, 2, "pair")
    assert claim.high is not None
    assert claim.high < 1
    same = mean_claim("q", "s", np.array([0.1, 0.1]), "pair", method="mean")
    assert same.low is same.high is None
    assert "no spread" in same.method
    change = mean_claim("q", "s", np.array([-0.1, 0.1]), "pair", method="mean")
    assert change.low is not None
    assert change.low < -0.5
