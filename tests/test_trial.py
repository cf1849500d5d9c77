from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from remnant import trial as trial_module
from remnant.schemes import (
    SCHEMES,
    Compose,
    Dense,
    DynamicInt8,
    Float16,
    MagnitudePruning,
    OneShotPruning,
    StaticInt8,
    scheme_from_dict,
)
from remnant.trial import Recipe, Subset, Trial, to_dict, trial_from_dict

RECIPE = Recipe("digits", "mlp")
TRIALS = [
    Trial(RECIPE),
    Trial(RECIPE, MagnitudePruning(0.9, scope="global"), 3),
    Trial(RECIPE, OneShotPruning(0.5), 1, Subset(2)),
    Trial(replace(RECIPE, augmentation=("crop", "flip")), Compose((MagnitudePruning(0.5), StaticInt8(50))), 7),
]


def test_keys_do_not_change():
    """A changed key orphans every published trial: change `NUMERICS` on purpose instead."""
    assert [t.key for t in TRIALS] == KEYS


KEYS = ["131bef25a665d6bb", "f18d7450de175a05", "e87dcdabf7304eb0", "db60938e8ffb9a3c"]


def test_a_default_that_is_spelled_out_is_the_same_trial():
    assert Trial(Recipe("digits", "mlp", epochs=10.0), Dense(), 0).key == TRIALS[0].key


def test_equal_numbers_of_other_types_are_the_same_trial():
    recipe = Recipe("digits", "mlp", epochs=20, milestones=(0, 1), steps=np.int64(7))  # pyright: ignore
    trial = Trial(recipe, MagnitudePruning(0), np.int64(3))  # pyright: ignore
    assert (
        trial.key == Trial(replace(recipe, epochs=20.0, milestones=(0.0, 1.0), steps=7), MagnitudePruning(0.0), 3).key
    )
    assert trial_from_dict(to_dict(trial)) == trial
    assert trial_from_dict(to_dict(trial)).key == trial.key


def test_every_field_matters_to_the_key():
    base = TRIALS[1]
    others = [
        replace(base, seed=4),
        replace(base, scheme=MagnitudePruning(0.9)),
        replace(base, recipe=replace(RECIPE, epochs=11)),
        replace(base, subset=Subset(0)),
    ]
    assert len({t.key for t in [base, *others]}) == 5


def test_numerics_matter_to_the_key(monkeypatch):
    before = TRIALS[0].key
    monkeypatch.setattr(trial_module, "NUMERICS", trial_module.NUMERICS + 1)
    assert TRIALS[0].key != before


@pytest.mark.parametrize("trial", TRIALS, ids=lambda t: t.scheme.label)
def test_a_trial_survives_the_round_trip_through_plain_data(trial):
    assert trial_from_dict(to_dict(trial)) == trial


def test_trials_are_frozen():
    with pytest.raises(FrozenInstanceError):
        TRIALS[0].seed = 1  # pyright: ignore


def test_streams_depend_on_seed_and_name_and_not_on_the_scheme():
    dense, pruned = Trial(RECIPE, seed=5), Trial(RECIPE, MagnitudePruning(0.9), 5)
    assert dense.rng("init").integers(2**62) == pruned.rng("init").integers(2**62)
    draws = {t.rng(name).integers(2**62) for t in (dense, Trial(RECIPE, seed=6)) for name in ("init", "order")}
    assert len(draws) == 4


def test_streams_do_not_change():
    """Stored populations were made with these numbers (NumPy's PCG64, seed 0, stream "init")."""
    assert Trial(RECIPE).rng("init").integers(1000, size=4).tolist() == DRAWS


DRAWS = [541, 319, 848, 499]


def test_post_training_schemes_share_the_dense_parent_of_their_seed():
    for scheme in (Float16(), DynamicInt8(), StaticInt8(), OneShotPruning(0.5), Compose((Float16(), DynamicInt8()))):
        assert Trial(RECIPE, scheme, 4).parent == Trial(RECIPE, Dense(), 4)


def test_schemes_that_take_part_in_training_have_no_parent():
    assert Trial(RECIPE).parent is None
    assert Trial(RECIPE, MagnitudePruning(0.5)).parent is None


def test_a_composition_on_a_trained_scheme_starts_from_that_scheme():
    pruned = MagnitudePruning(0.5)
    assert Trial(RECIPE, Compose((pruned, DynamicInt8())), 2).parent == Trial(RECIPE, pruned, 2)


def test_labels_name_what_differs_from_the_default():
    assert Dense().label == "dense"
    assert MagnitudePruning(0.9).label == "magnitude-pruning(sparsity=0.9)"
    assert StaticInt8(calibration=7).label == "static-int8(calibration=7)"
    assert Compose((MagnitudePruning(0.5), DynamicInt8())).label == "magnitude-pruning(sparsity=0.5) + dynamic-int8"


def test_every_scheme_is_documented_by_one_sentence():
    for name, scheme in SCHEMES.items():
        assert name == scheme.kind
        assert scheme.__doc__
        assert scheme.__doc__.split("\n")[0].endswith(".")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MagnitudePruning(1.0), r"Expected `sparsity` in \[0, 1\), but got 1.0"),
        (lambda: MagnitudePruning(-0.1), r"Expected `sparsity` in \[0, 1\), but got -0.1"),
        (lambda: OneShotPruning(2), r"Expected `sparsity` in \[0, 1\), but got 2"),
        (lambda: MagnitudePruning(0.5, scope="globl"), "Did you mean 'global'"),  # pyright: ignore
        (lambda: MagnitudePruning(0.5, begin=0.8, end=0.2), "begin <= end"),
        (lambda: StaticInt8(0), "Expected `calibration` >= 1"),
        (lambda: Compose((Dense(),)), "at least 2 schemes"),
        (lambda: Compose((Float16(), MagnitudePruning(0.5))), "only the first of `parts`"),
        (lambda: Compose((Compose((Float16(), DynamicInt8())), StaticInt8())), "to be plain schemes"),
        (lambda: Recipe("digits", "mlp", epochs=0), "Expected `epochs` > 0"),
        (lambda: Recipe("digits", "mlp", optimizer="sdg"), "Did you mean 'sgd'"),  # pyright: ignore
        (lambda: Recipe("digits", "mlp", augmentation=("flop",)), "Did you mean 'flip'"),  # pyright: ignore
        (lambda: Recipe("digits", "mlp", checkpoint="validation"), "Expected `validation` > 0"),
        (lambda: Subset(-1), "Expected `index` >= 0"),
        (lambda: Subset(10, "balanced", count=10), "Expected `count` above the index 10"),
        (lambda: Subset(1, "fixed", count=10), "Expected `count` to be None"),
        (lambda: Subset(0, fraction=1.0), r"Expected `fraction` in \(0, 1\)"),
        (lambda: Subset(0, "pairs"), "Expected `fraction` = 0.5"),
        (lambda: scheme_from_dict("flaot16"), "Did you mean 'float16'"),
        (lambda: scheme_from_dict({"sparsity": 0.5}), "to have a `kind`"),
        (lambda: scheme_from_dict({"kind": "magnitude-pruning"}), r"expected the keys \['sparsity'\]"),
        (lambda: scheme_from_dict({"kind": "magnitude-pruning", "sparsty": 0.5}), "Did you mean 'sparsity'"),
        (lambda: scheme_from_dict({"kind": "magnitude-pruning", "sparsity": "high"}), "of type float, but got 'high'"),
    ],
)
def test_bad_values_say_what_was_expected_and_what_came(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_streams_are_independent_generators():
    a, b = Trial(RECIPE).rng("init"), Trial(RECIPE).rng("init")
    assert isinstance(a, np.random.Generator)
    a.random(10)
    assert b.integers(1000, size=4).tolist() == DRAWS
