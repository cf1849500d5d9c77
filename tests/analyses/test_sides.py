import numpy as np
import pytest

from remnant.analyses.comparison import comparisons, exchange
from remnant.finding import NotApplicable
from remnant.population import SchemaError
from tests import simulate
from tests.analyses import file_populations

RNG = np.random.default_rng(0)


def test_the_reference_of_files_needs_no_name():
    (found,) = comparisons(file_populations.population(), pairs=True)
    assert (found.reference_label, found.scheme, found.files) == ("net", "net-int8", True)
    (turned,) = comparisons(file_populations.population(), "net-int8")
    assert turned.scheme == "net"
    np.testing.assert_array_equal(turned.first, found.second)


def test_answers_are_the_same_with_and_without_logits():
    with_logits, without = (comparisons(file_populations.population(logits=found))[0] for found in (True, False))
    np.testing.assert_array_equal(with_logits.first, without.first)
    np.testing.assert_array_equal(with_logits.second, without.second)
    assert with_logits.first.dtype == without.first.dtype == np.int8
    assert with_logits.has_logits
    assert not without.has_logits


def test_logits_are_not_copied():
    population = file_populations.population(sides={"a": 2, "b": 2})
    (found,) = comparisons(population)
    assert np.shares_memory(found.reference["logits"].values, population["logits"].values)
    assert np.shares_memory(found.compressed["logits"].values, population["logits"].values)


def test_trials_apart_from_each_other_are_found():
    population = file_populations.population(sides={"a": 3, "b": 3})
    order = RNG.permutation(6)
    one, two = comparisons(population)[0], comparisons(population.isel(trial=order))[0]
    np.testing.assert_array_equal(one.first, two.first)
    np.testing.assert_array_equal(one.second, two.second)


def test_one_reference_file_makes_a_pair_with_every_file():
    first, second = comparisons(file_populations.population(sides={"a": 1, "b": 3, "c": 1}), pairs=True)
    assert first.pairs == [(0, 0), (0, 1), (0, 2)]
    assert second.pairs == [(0, 0)]
    assert "one reference model" in first.over_pairs
    assert second.over_pairs == ""


def test_files_without_a_partner_are_refused():
    with pytest.raises(SchemaError, match=r"one model of the reference, or one for each of 'b', but got 2 and 3"):
        comparisons(file_populations.population(sides={"a": 2, "b": 3}), pairs=True)
    one_seed = simulate.population(RNG, num_seeds=3).isel(trial=[0, 3, 4])
    with pytest.raises(SchemaError, match="same seeds on both sides"):
        comparisons(one_seed, pairs=True)


def test_a_single_pair_is_told_how_to_become_populations():
    with pytest.raises(NotApplicable, match=r"'net' has 1.*several models a side.*calibration sets.*checkpoints"):
        comparisons(file_populations.population(), least=2)
    with pytest.raises(NotApplicable, match="files of a compressed model"):
        comparisons(file_populations.population(sides={"net": 2}))


def test_a_population_without_answers_is_refused():
    with pytest.raises(NotApplicable, match="no `logits` and no `prediction`; keep the outputs"):
        comparisons(simulate.population(RNG, num_seeds=2).drop_vars("logits"))


def test_files_of_the_same_number_are_exchanged_as_pairs():
    (same,) = comparisons(file_populations.population(sides={"float16": 3, "dynamic-int8": 3}))
    found = exchange(same, "auto", RNG)
    assert found.kind == "paired"
    assert "files of the same number" in found.reason
    # The name is that of a post-training scheme, which in a store would make the seeds an error.
    (other,) = comparisons(file_populations.population(sides={"float16": 2, "dynamic-int8": 3}))
    assert exchange(other, "auto", RNG).kind == "free"
