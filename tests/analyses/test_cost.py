import json
from typing import Any

import numpy as np
import pytest
from scipy import stats

from remnant.analyses import cost_distances
from remnant.analyses.cost import example_columns, run
from remnant.finding import NotApplicable
from remnant.stats.cost import confusion_distance, zero_one
from tests import simulate
from tests.analyses import file_populations

PRUNED = "magnitude-pruning(sparsity=0.9)"
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def population(seed=0, **options):
    return simulate.population(np.random.default_rng(seed), **{"num_seeds": 5, "num_examples": 300, **options})


def cifar(seed=0, **options):
    return population(seed, num_classes=10, **options).assign_coords({"class": CIFAR10})


def answers(found):
    return found["logits"].values.argmax(axis=-1)


def test_cost_equals_the_formula_with_the_confusion_of_the_reference():
    found = population()
    finding = run(found)
    label, answer = found["label"].values, answers(found)
    confusion = np.zeros((5, 5))
    for row in answer[:5]:
        for truth, one in zip(label, row, strict=True):
            confusion[truth, one] += 1
    distance = confusion_distance(confusion)
    slow = [np.mean([distance[b, a] for a, b in zip(answer[k], answer[5 + k], strict=True)]) for k in range(5)]
    claim = finding.claim("misclassification_cost", PRUNED)
    assert claim.estimate == pytest.approx(np.mean(slow))
    assert (claim.low, claim.high) == pytest.approx(stats.t.interval(0.95, 4, np.mean(slow), stats.sem(slow)))
    before = [np.mean(distance[answer[k], label]) for k in range(5)]
    after = [np.mean(distance[answer[5 + k], label]) for k in range(5)]
    change = finding.claim("mistake_cost_change", PRUNED)
    assert change.estimate == pytest.approx(np.mean(after) - np.mean(before))
    row = finding.to_frame().set_index("distance").loc["confusion"]
    assert row["mistake_cost_reference"] == pytest.approx(np.mean(before))


def test_zero_one_cost_is_the_share_of_flips():
    found = population()
    finding = run(found, distance="zero-one")
    answer = answers(found)
    assert finding.claim("misclassification_cost", PRUNED).estimate == pytest.approx(np.mean(answer[:5] != answer[5:]))
    assert finding.claim("flip_severity", PRUNED).estimate == pytest.approx(1)
    assert finding.claim("flip_severity", PRUNED).low is None


def test_no_flips_cost_nothing():
    found = cifar()
    found["logits"].values[5:] = found["logits"].values[:5]
    finding = run(found)
    claim: Any = finding.claim("misclassification_cost", PRUNED)
    assert claim.estimate == 0
    assert finding.claim("mistake_cost_change", PRUNED).estimate == 0
    assert not [c for c in finding.claims if c.subject == PRUNED and "severity" in c.quantity]
    assert "Most severe flips: " + PRUNED not in finding.galleries


def test_a_single_pair_without_flips_has_an_upper_end():
    found = file_populations.population()
    found["logits"].values[1] = found["logits"].values[0]
    claim: Any = run(found, distance="zero-one").claim("misclassification_cost", "net-int8")
    assert claim.estimate == claim.low == 0
    assert claim.high == pytest.approx(-np.log(0.025) / 300)


def test_flips_within_superclasses_are_less_severe():
    found = cifar()
    logits = found["logits"].values
    logits[5:] = logits[:5]
    cats = np.flatnonzero(answers(found)[0] == 3)
    logits[5:, cats, 5] = logits[5:, cats].max(axis=-1) + 1
    finding = run(found, distance="superclasses")
    assert finding.claim("flips_across_superclasses", PRUNED).estimate < 0.5
    assert finding.claim("flip_severity", PRUNED).estimate < finding.claim("flip_severity_between_seeds").estimate
    table: Any = finding.tables["severity"]
    own = table[table["scheme"] == PRUNED].set_index("value")["share_of_flips"]
    across = finding.claim("flips_across_superclasses", PRUNED).estimate
    assert own[1.0] == pytest.approx(across, abs=0.02)
    worst: Any = finding.tables["flows"].iloc[0]
    assert worst["to_class"] == "dog"


def test_the_yardstick_is_each_reference_model_against_the_next():
    found = population(num_seeds=3)
    answer = answers(found)[:3]
    expected = np.mean([np.mean(answer[k] != answer[(k + 1) % 3]) for k in range(3)])
    claim = run(found, distance="zero-one").claim("misclassification_cost_between_seeds")
    assert claim.estimate == pytest.approx(expected)
    assert claim.subject == "dense"


def test_a_null_population_costs_what_seeds_cost():
    within = 0
    for seed in range(30):
        finding = run(population(seed, num_seeds=4, num_examples=150))
        row: Any = finding.to_frame().set_index("distance").loc["confusion"]
        spread = (row["cost_high"] - row["cost_low"]) / 2
        within += abs(row["cost"] - row["cost_between_seeds"]) <= 2 * spread
    assert within >= 27


def test_a_second_run_of_the_reference_is_a_yardstick():
    found = file_populations.population(sides={"net": 1, "again": 1, "net-int8": 1})
    found.attrs["floor"] = "again"
    answer = answers(found)
    claim = run(found, distance="zero-one").claim("misclassification_cost_between_seeds")
    assert claim.estimate == pytest.approx(np.mean(answer[0] != answer[1]))


def test_weights_of_examples():
    found = population(num_seeds=1)
    answer, label = answers(found), found["label"].values
    flip = answer[0] != answer[1]
    mu = np.random.default_rng(0).random(300)
    given = run(found, distance="zero-one", weights=mu.tolist()).claim("misclassification_cost", PRUNED)
    assert given.estimate == pytest.approx(flip @ mu / mu.sum())
    found["label"].values[:100] = 0
    label = found["label"].values
    classes = run(found, distance="zero-one", weights="classes").claim("misclassification_cost", PRUNED)
    assert classes.estimate == pytest.approx(np.mean([flip[label == c].mean() for c in range(5)]))


def test_answers_alone_are_enough():
    sides = {"net": 1, "net-int8": 1}
    found = file_populations.population(sides=sides, logits=False, labels=False)
    finding = run(found)
    assert finding.parameters["distance"] == "zero-one"
    assert "mistake_cost_change" not in {claim.quantity for claim in finding.claims}
    known = run(file_populations.population(sides=sides, logits=False))
    assert known.parameters["distance"] == "confusion"


def test_superclasses_of_cifar_100_are_its_twenty():
    """Krizhevsky (2009), section 3: 20 superclasses of 5 classes each."""
    table = cost_distances.BUILT_IN["CIFAR-100"]
    assert len(table) == 100
    counts = {group: list(table.values()).count(group) for group in table.values()}
    assert len(counts) == 20
    assert set(counts.values()) == {5}
    spaced = [name.replace("_", " ") for name in table]
    assert cost_distances.superclasses(spaced, None) == list(table.values())
    assert cost_distances.superclasses(["a", "b"], None) is None


@pytest.mark.parametrize("kind", ["json", "csv", "txt"])
def test_hierarchies_from_files(tmp_path, kind):
    pairs = [(name, "animal" if name in CIFAR10[2:8] else "vehicle") for name in CIFAR10]
    pairs += [("animal", "thing"), ("vehicle", "thing")]
    path = tmp_path / f"tree.{kind}"
    if kind == "json":
        path.write_text(json.dumps(dict(pairs)))
    elif kind == "csv":
        path.write_text("child,parent\n" + "".join(f"{child},{parent}\n" for child, parent in pairs))
    else:
        path.write_text("".join(f"{parent} {child}\n" for child, parent in pairs))
    finding = run(cifar(), distance="hierarchy", hierarchy=str(path))
    table = finding.to_frame().set_index("distance")
    assert table.loc["hierarchy", "cost"] == pytest.approx(table.loc["superclasses", "cost"])


def test_wordnet_ids_are_the_first_word_of_a_class(tmp_path):
    path = tmp_path / "is_a.txt"
    path.write_text("n0 n1\nn0 n2\nn9 n0\nn9 n3\n")
    found = cost_distances.hierarchy(["n1 tench", "n2 goldfish", "n3 tow truck"], str(path))
    assert found.tolist() == [[0, 0.5, 1], [0.5, 0, 1], [1, 1, 0]]


def test_matrices_from_files_and_as_given(tmp_path):
    matrix = 3 * zero_one(5)
    np.save(tmp_path / "d.npy", matrix)
    np.savetxt(tmp_path / "d.csv", matrix, delimiter=",")
    found = population()
    once = run(found, distance="zero-one").claim("misclassification_cost", PRUNED).estimate
    for given in (str(tmp_path / "d.npy"), str(tmp_path / "d.csv"), matrix):
        assert run(found, distance=given).claim("misclassification_cost", PRUNED).estimate == pytest.approx(3 * once)
    matrix[0, 1] = 100
    assert any("no metric" in caveat for caveat in run(found, distance=matrix).caveats)


def test_columns_of_examples():
    found = population()
    ids, value = example_columns(found, PRUNED)["flip_cost"]
    np.testing.assert_array_equal(ids, found["example"].values)
    assert value.mean() == pytest.approx(run(found).claim("misclassification_cost", PRUNED).estimate)


def test_the_worst_flips_are_shown():
    finding = run(cifar(), distance="superclasses")
    shown = finding.galleries[f"Most severe flips: {PRUNED}"]
    assert len(shown) == 24
    values = [exhibit.value or 0 for exhibit in shown]
    assert values == sorted(values, reverse=True)
    assert {line.partition(":")[0] for line in shown[0].lines} == {"true", "reference", "compressed", "distance"}


def write(path, text):
    path.write_text(text)
    return str(path)


def test_bad_input_is_refused(tmp_path):
    found = population()
    with pytest.raises(ValueError, match="'superclasses' and 'hierarchy' need the parameter"):
        run(found, distance="superclasses")
    with pytest.raises(ValueError, match=r"of shape \(5, 5\), but got \(2, 2\)"):
        run(found, distance=np.ones((2, 2)))
    with pytest.raises(FileNotFoundError, match="Expected a file at"):
        run(found, distance="missing.npy")
    with pytest.raises(ValueError, match="Expected a matrix of numbers"):
        run(found, distance=write(tmp_path / "d.csv", "a,b\n"))
    with pytest.raises(ValueError, match="have none"):
        run(found, superclasses={"class 0": "x"})
    with pytest.raises(ValueError, match=r"Expected the columns \['class', 'superclass'\]"):
        run(found, superclasses=write(tmp_path / "s.csv", "a,b\n1,2\n"))
    with pytest.raises(ValueError, match="some values are not texts"):
        run(found, superclasses=write(tmp_path / "s.json", '{"class 0": 1}'))
    with pytest.raises(ValueError, match="it cannot be read"):
        run(found, hierarchy=write(tmp_path / "h.json", "{"))
    with pytest.raises(ValueError, match="Expected a JSON object"):
        run(found, hierarchy=write(tmp_path / "h.json", "[]"))
    with pytest.raises(ValueError, match="to be names"):
        run(found, hierarchy=write(tmp_path / "h.json", '{"class 0": 3}'))
    with pytest.raises(ValueError, match="in line 2"):
        run(found, hierarchy=write(tmp_path / "h.txt", "a b\na b c\n"))
    with pytest.raises(ValueError, match="Expected every class in the hierarchy"):
        run(found, hierarchy=write(tmp_path / "h.txt", "a b\n"))
    with pytest.raises(ValueError, match="None, 'classes' or one number an example"):
        run(found, weights="groups")
    with pytest.raises(ValueError, match="300 numbers >= 0"):
        run(found, weights=[1.0])
    with pytest.raises(NotApplicable, match="need the true class"):
        run(file_populations.population(labels=False), weights="classes")


def test_too_many_classes_for_a_matrix_are_told(monkeypatch):
    monkeypatch.setattr("remnant.analyses.cost._MOST_CLASSES", 4)
    with pytest.raises(NotApplicable, match="at most 4 classes are compared"):
        run(simulate.population(np.random.default_rng(0), num_classes=5))
