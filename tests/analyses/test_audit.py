import json
import subprocess
import sys

import numpy as np
import pytest

from remnant.analyses import ANALYSES, FILE_ANALYSES, STORE_ANALYSES, about, analysis, audit
from remnant.finding import Audit
from remnant.population import SchemaError
from remnant.registry import UnknownNameError
from tests import simulate

OURS = ("mismatches", "exemplars", "classes")


def population(**options):
    return simulate.population(np.random.default_rng(0), **options)


def test_every_built_in_analysis_bears_its_name():
    assert [analysis(name).name for name in ANALYSES] == list(ANALYSES)


def test_what_a_population_cannot_answer_is_named_with_the_reason():
    found = population().drop_vars(["included", "train_correct", "bytes"])
    result = audit(found, progress=lambda done, total, name: None)
    found_by = [finding.analysis for finding in result.findings]
    assert [name for name in found_by if name in OURS] == list(OURS)
    assert found_by == [name for name in STORE_ANALYSES if name in found_by]
    assert "no `included`" in result.not_run["memorization"]
    assert "train subset trials" in result.not_run["memorization"]
    assert "memorization" not in {finding.analysis for finding in result.findings}
    assert {finding.analysis for finding in result.findings} | set(result.not_run) == set(STORE_ANALYSES)


def test_every_analysis_is_asked_of_stores_or_of_files():
    assert {*STORE_ANALYSES, *FILE_ANALYSES, "sufficiency", "natural_adversarial", "decoding"} == set(ANALYSES)


def test_models_made_elsewhere_are_asked_other_questions():
    found = population().drop_vars(["included", "train_correct", "bytes"])
    found.attrs |= {"reference": "dense", "inputs": []}
    result = audit(found)
    assert {finding.analysis for finding in result.findings} | set(result.not_run) == set(FILE_ANALYSES)


def test_an_analysis_that_does_not_apply_leaves_the_others():
    result = audit(population(schemes={"dense": 0.0}), OURS)
    assert set(result.not_run) == set(OURS)
    assert all("compressed scheme" in reason for reason in result.not_run.values())
    unpaired = audit(population(num_seeds=4).isel(trial=[0, 1, 2, 3, 4, 5, 6]), OURS)
    assert list(unpaired.not_run) == ["mismatches"]
    assert "same seeds" in unpaired.not_run["mismatches"]


def test_parameters_reach_their_analysis():
    result = audit(population(), ["exemplars"], parameters={"exemplars": {"tie": "lowest", "num_permutations": 50}})
    assert result.findings[0].parameters["tie"] == "lowest"
    with pytest.raises(UnknownNameError, match="Did you mean 'exemplars'"):
        audit(population(), ["exemplars"], parameters={"exemplar": {}})
    with pytest.raises(UnknownNameError, match="Did you mean 'classes'"):
        audit(population(), ["clases"])


def test_progress_names_what_comes_next():
    seen = []
    audit(population(), OURS, progress=lambda done, total, name: seen.append((done, total, name)))
    assert seen == [(0, 3, "mismatches"), (1, 3, "exemplars"), (2, 3, "classes"), (3, 3, "")]


def test_a_broken_population_is_refused():
    found = population()
    found["logits"][3, 0, 0] = np.nan
    with pytest.raises(SchemaError, match="finite `logits`"):
        audit(found, OURS)


def test_about_holds_plain_facts():
    facts = about(population(num_seeds=3, num_subset_trials=5))
    assert json.loads(json.dumps(facts)) == facts
    assert facts["schemes"] == {
        "dense": {"whole": 3, "subsets": 5},
        "magnitude-pruning(sparsity=0.9)": {"whole": 3, "subsets": 0},
    }
    assert (facts["num_examples"], facts["num_train_examples"], facts["num_classes"]) == (200, 150, 5)
    assert facts["dataset"] == "simulated"
    assert {"python", "remnant", "numpy"} <= set(facts["versions"])


def test_an_audit_survives_json():
    result = audit(population(), OURS)
    restored = Audit.from_dict(json.loads(json.dumps(result.to_dict(), allow_nan=False)))
    assert restored.to_dict() == result.to_dict()


def test_auditing_imports_no_torch_no_pictures_and_no_distributions():
    code = (
        "import sys, numpy as np; from tests import simulate; from remnant import analyses; "
        "assert not any(name.startswith('remnant.analyses.') for name in sys.modules); "
        "analyses.audit(simulate.population(np.random.default_rng(0), num_seeds=3)); "
        "assert not {'torch', 'matplotlib', 'scipy.stats', 'scipy.optimize'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
