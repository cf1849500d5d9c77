"""Reports on the findings of the real analyses, of populations with known truth."""

import re

import numpy as np
import pytest

from remnant.analyses import audit
from remnant.report import read, write
from remnant.report.overview import overview
from remnant.report.prose import plain
from remnant.report.summary import answers
from tests import simulate
from tests.report.page import Page
from tests.report.test_summary import numbers

FORGETS = "magnitude-pruning(sparsity=0.9)"


@pytest.fixture(scope="module")
def simulated():
    rng = np.random.default_rng(7)
    schemes = {"dense": 0.0, FORGETS: 0.0, "static-int8": 0.0}
    population = simulate.population(
        rng, schemes=schemes, num_seeds=6, num_subset_trials=30, num_examples=120, num_train=90, forgotten=0.2
    )
    # One scheme forgets; the other is an exact copy of the dense models: no mismatch at all.
    is_copy = population["scheme"].values == "static-int8"
    is_dense = (population["scheme"].values == "dense") & (population["subset"].values < 0)
    for name in ("logits", "train_prediction", "train_correct", "train_margin"):
        population[name].values[is_copy] = population[name].values[is_dense]
    return audit(population)


@pytest.fixture(scope="module")
def written(simulated, tmp_path_factory):
    return write(simulated, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(written):
    return Page(written["report.html"].read_text())


def test_every_number_of_the_first_screen_is_one_of_a_claim(simulated):
    said, invented = numbers(simulated)
    assert len(said) > 20
    assert not invented


def test_what_is_known_of_the_population_is_what_the_first_screen_says(simulated):
    forgotten, noise, *_ = answers(simulated)
    assert plain(forgotten.lead).startswith("Magnitude pruning at sparsity 0.9 loses")
    assert plain(noise.lead) == "Yes for magnitude pruning at sparsity 0.9; it is not shown for the others."
    assert "static int8, loses 0.00 %" in plain(forgotten.rest[-1])


def test_the_overview_has_all_columns(simulated):
    table = overview(simulated)
    assert len(table.columns) == 6
    forgets = dict(zip(table.columns, table.rows[1][1], strict=True))
    assert all(cell.value for cell in forgets.values())
    assert forgets["Worst class, relative change"].note.startswith("class ")


def test_every_finding_has_its_question_and_picture(simulated, page):
    assert set(simulated.not_run) == {
        "layers",
        "features",
        "attribution",
        "boundary",
        "corruptions",
        "adversarial",
        "explanation",
    }
    assert len(page.all("svg")) == len(simulated.findings) == 14
    for finding in simulated.findings:
        assert finding.question in page.text("h2.")
    assert "No picture" not in page.text()


def test_the_page_is_whole(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for _, attributes in page.elements:
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
    assert not re.search(r"\b(nan|nat|inf)\b", page.text(), re.IGNORECASE)


def test_the_report_is_made_again_from_its_json(written, tmp_path):
    again = write(read(written["report.json"]), tmp_path)
    assert {name: path.read_bytes() for name, path in again.items()} == {
        name: path.read_bytes() for name, path in written.items()
    }
