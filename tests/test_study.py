from importlib.resources import files
from pathlib import Path

import pytest

from remnant.schemes import Dense, Float16, MagnitudePruning
from remnant.study import Study, read, study_from_dict
from remnant.trial import Recipe

RECIPE = {"dataset": "digits", "architecture": "mlp", "epochs": 2}


def test_the_demo_asks_for_what_the_documentation_says():
    trials = read(Path(str(files("remnant").joinpath("studies/demo.toml")))).trials()
    whole = [t for t in trials if t.subset is None]
    assert len({t.seed for t in whole}) == 20
    assert {t.scheme.label for t in whole} == {
        "dense",
        "magnitude-pruning(sparsity=0.5)",
        "magnitude-pruning(sparsity=0.9)",
        "float16",
        "dynamic-int8",
        "static-int8",
    }
    assert sum(t.subset is not None for t in trials) == 200


def test_a_study_is_read_from_toml(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(
        'schemes = ["float16", {kind = "magnitude-pruning", sparsity = 0.9}]\nseeds = [3, 5]\n'
        '[recipe]\ndataset = "digits"\narchitecture = "mlp"\nepochs = 2\n[subsets]\ntrials = 4\ndesign = "pairs"\n'
        "fraction = 0.5\n"
    )
    study = read(path)
    assert study.recipe == Recipe("digits", "mlp", epochs=2.0)
    assert study.schemes == (Float16(), MagnitudePruning(0.9))
    assert len(study.trials()) == 3 * 2 + 4
    assert {t.scheme for t in study.trials()} == {Dense(), Float16(), MagnitudePruning(0.9)}


def test_the_dense_reference_is_always_there():
    trials = study_from_dict({"recipe": RECIPE, "seeds": 2}).trials()
    assert [(t.scheme, t.seed) for t in trials] == [(Dense(), 0), (Dense(), 1)]


def test_a_preset_is_changed_field_by_field():
    study = study_from_dict({"recipe": {"preset": "digits-mlp", "epochs": 3}})
    assert study.recipe.epochs == 3
    assert study.recipe.dataset == "digits"
    assert isinstance(study, Study)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, r"Expected a table \[recipe\]"),
        ({"recipe": RECIPE, "seed": 3}, "Did you mean 'seeds'"),
        ({"recipe": RECIPE | {"epoch": 3}}, "In `recipe`: .*Did you mean 'epochs'"),
        ({"recipe": {"dataset": "digits"}}, r"In `recipe`: expected the keys \['architecture'\]"),
        ({"recipe": {"preset": "digit-mlp"}}, "Did you mean 'digits-mlp'"),
        ({"recipe": RECIPE | {"epochs": "many"}}, "Expected `recipe.epochs` to be of type float, but got 'many'"),
        ({"recipe": RECIPE | {"steps": "9"}}, "Expected `recipe.steps` to be of type int, but got '9'"),
        ({"recipe": RECIPE | {"milestones": ["a"]}}, "Expected `recipe.milestones` to be of type float, but got 'a'"),
        ({"recipe": RECIPE, "seeds": 0}, "Expected `seeds` to be a number of seeds >= 1"),
        ({"recipe": RECIPE, "seeds": [1, -1]}, "Expected `seeds`"),
        ({"recipe": RECIPE, "schemes": "float16"}, "Expected `schemes` to be a list"),
        ({"recipe": RECIPE, "schemes": ["flaot16"]}, "Did you mean 'float16'"),
        ({"recipe": RECIPE, "schemes": [{"kind": "magnitude-pruning", "sparsity": 1.5}]}, r"`schemes\[0\]`: .* 1.5"),
        ({"recipe": RECIPE, "subsets": {"trials": 1}}, "Expected `trials` >= 2"),
        ({"recipe": RECIPE, "subsets": {"trials": 9, "design": "fixd"}}, "Did you mean 'fixed'"),
        ({"recipe": RECIPE, "subsets": 20}, r"Expected a table \[subsets\]"),
        ({"recipe": {"preest": "digits-mlp"}}, "Did you mean 'preset'"),
        ({"recipe": RECIPE, "subsets": {"fraction": 0.5}}, r"In `subsets`: expected the keys \['trials'\]"),
    ],
)
def test_a_wrong_study_names_the_key_what_was_expected_and_what_came(data, message):
    with pytest.raises(ValueError, match=message):
        study_from_dict(data)


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("seeds = ")
    with pytest.raises(ValueError, match="broken.toml is not valid TOML"):
        read(path)
    path.write_text("seeds = 3")
    with pytest.raises(ValueError, match=r"broken.toml: Expected a table \[recipe\]"):
        read(path)
    with pytest.raises(ValueError, match="absent.toml does not exist"):
        read(tmp_path / "absent.toml")
