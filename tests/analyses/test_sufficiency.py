import re

import numpy as np
import pytest

from remnant.analyses import sufficiency
from remnant.analyses.comparison import comparisons
from remnant.analyses.exemplar_measures import measure
from remnant.finding import Finding, NotApplicable
from remnant.population import SchemaError
from remnant.report.labels import scheme_name
from tests import simulate


def label(method: str, share: float) -> str:
    return f"selected-data(method={method}, share={share}, selection=0123456789abcdef)"


SCHEMES = {
    "dense": 0.0,
    "static-int8": 0.0,
    label("random", 0.5): 0.4,
    label("random", 0.25): 1.5,
    label("el2n-hard", 0.5): 0.0,
    label("el2n-hard", 0.25): 0.6,
    label("memorization-easy", 0.5): 1.0,
}


def population(seed: int = 0, schemes=None, **options):
    options = {"num_seeds": 6, "num_examples": 300, "num_train": 40, **options}
    found = simulate.population(np.random.default_rng(seed), schemes=schemes or SCHEMES, **options)
    included = found["included"].values.copy()
    for row, scheme in enumerate(found["scheme"].values):
        match = re.search("share=([0-9.]+)", scheme)
        if match:
            included[row, round(40 * float(match[1])) :] = False
    return found.assign(included=(("trial", "train_example"), included))


@pytest.fixture(scope="module")
def finding() -> Finding:
    return sufficiency.run(population())


def test_the_table_is_worked_out_anew_by_hand(finding):
    people = population()
    right = people["logits"].values.argmax(axis=-1) == people["label"].values
    scheme, classes = people["scheme"].values, people["label"].values
    for row in finding.tables["shares"].to_dict("records"):
        change = right[scheme == row["scheme"]].mean(axis=1) - right[scheme == "dense"].mean(axis=1)
        assert row["accuracy_change"] == pytest.approx(change.mean())
        half = 2.570582 * change.std(ddof=1) / np.sqrt(6)  # t quantile 0.975 with 5 degrees of freedom, from tables
        assert (row["low"], row["high"]) == pytest.approx((change.mean() - half, change.mean() + half))
        by_class = [
            right[scheme == row["scheme"]][:, classes == c].mean() - right[scheme == "dense"][:, classes == c].mean()
            for c in range(5)
        ]
        assert row["worst_class_change"] == pytest.approx(min(by_class))
        assert row["worst_class"] == f"class {np.argmin(by_class)}"
        assert row["train_examples"] == round(40 * row["share"])


def test_pies_are_those_of_the_exemplars(finding):
    people = population()
    for part in comparisons(people, "dense", pairs=True):
        row = finding.tables["shares"].set_index("scheme").to_dict("index").get(part.scheme)
        if row is not None:
            assert row["pies"] == measure(part, "most-probable", "auto", 50, 0).count


def test_random_choices_are_compared_seed_by_seed(finding):
    table = finding.tables["against_random"].set_index(["method", "share"])
    people = population()
    right = (people["logits"].values.argmax(axis=-1) == people["label"].values).mean(axis=1)
    scheme = people["scheme"].values
    expected = right[scheme == label("memorization-easy", 0.5)] - right[scheme == label("random", 0.5)]
    row = table.loc[("memorization-easy", 0.5)]
    assert row["difference"] == pytest.approx(expected.mean())
    assert row["removed_share"] == 0.5
    assert len(table) == 3
    claim = finding.claim("accuracy_against_random", label("memorization-easy", 0.5))
    assert claim.estimate == pytest.approx(expected.mean())
    assert "feldman2020what" in claim.citation


def test_the_smallest_share_lies_between_tested_ones(finding):
    """Half way between the changes at 0.25 and 0.5 it is their geometric mean."""
    rows = finding.tables["shares"].to_dict("records")
    mine = {row["share"]: row["accuracy_change"] for row in rows if row["method"] == "random"}
    assert mine[0.25] < mine[0.5] < 0
    again = sufficiency.run(population(), drops=(-(mine[0.25] + mine[0.5]) / 2,))
    row = next(r for r in again.tables["smallest_shares"].to_dict("records") if r["method"] == "random")
    assert row["share"] == pytest.approx(np.sqrt(0.25 * 0.5))
    assert row["low"] < row["share"] < row["high"]
    assert not row["smaller_may_do"]


def test_a_choice_that_changes_nothing_costs_nothing():
    people = population(schemes={"dense": 0.0, label("random", 0.5): 0.0})
    logits = people["logits"].values.copy()
    logits[6:] = logits[:6]
    found = sufficiency.run(people.assign(logits=(people["logits"].dims, logits)))
    row = found.to_frame().iloc[0]
    assert (row["accuracy_change"], row["pies"], row["worst_class_change"]) == (0, 0, 0)
    assert bool(np.all(found.tables["smallest_shares"]["smaller_may_do"]))


def test_interval_of_the_worst_class_holds_under_the_null():
    """Of 100 populations whose choice changes nothing, about 5 % may have a worst class with an interval below 0."""
    below = 0
    for seed in range(100):
        people = population(
            seed, {"dense": 0.0, label("random", 0.5): 0.0}, num_seeds=5, num_examples=100, num_train=10
        )
        row = sufficiency.run(people, num_permutations=2).to_frame().iloc[0]
        below += int(float(row["worst_class_high"]) < 0)
    assert below <= 11  # 99 % quantile of Binomial(100, 0.05)


def test_order_of_trials_is_irrelevant(finding):
    people = population()
    order = np.random.default_rng(1).permutation(people.sizes["trial"])
    again = sufficiency.run(people.isel(trial=order))
    one, two = finding.to_frame().set_index("scheme"), again.to_frame().set_index("scheme")
    for column in ("accuracy", "accuracy_change", "pies", "worst_class_change"):
        assert two.loc[one.index, column].tolist() == pytest.approx(one[column].tolist())


def test_claims_and_finding_survive_json_and_the_picture_is_drawn(finding):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    restored = Finding.from_dict(finding.to_dict())
    assert restored.claims == finding.claims
    keys = [(claim.quantity, claim.subject) for claim in finding.claims]
    assert len(set(keys)) == len(keys)
    axes = sufficiency.plot(restored)
    axes.figure.canvas.draw()
    assert [line.get_label() for line in axes.get_lines()] == [
        "el2n-hard", "memorization-easy", "random", "all examples",
    ]  # fmt: skip
    pyplot.close(axes.figure)


def test_one_seed_has_no_intervals():
    found = sufficiency.run(population(num_seeds=1))
    assert found.claim("kept_accuracy_change", label("random", 0.5)).low is None
    assert any("one model a side" in caveat for caveat in found.caveats)
    assert bool(np.all(found.tables["smallest_shares"]["low"].isna()))


def test_reports_have_a_name_for_the_scheme():
    assert scheme_name(label("el2n-hard", 0.5)).startswith("Selected data, ")


def test_what_cannot_be_asked_says_why():
    with pytest.raises(NotApplicable, match="remnant data select"):
        sufficiency.run(population(schemes={"dense": 0.0, "static-int8": 0.0}))
    people = population()
    keep = ~((people["scheme"].values == label("random", 0.5)) & (people["seed"].values == 0))
    with pytest.raises(SchemaError, match="same seeds"):
        sufficiency.run(people.isel(trial=keep))
