import re
from pathlib import Path

import pytest

from remnant.ingest import Limits
from remnant.ingest.limits import MEBIBYTE
from remnant.ingest.names import NAMES, roles

PAGE = (Path(__file__).parents[2] / "docs/how-to/prediction-files.md").read_text()


@pytest.mark.parametrize("role", NAMES)
def test_every_name_is_documented_and_found(role):
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{role}` |"))
    documented = row.split("|")[2].partition(";")[0].partition("(")[0]
    assert tuple(re.findall(r"\w+", documented)) == NAMES[role]
    for name in NAMES[role]:
        assert roles([name.upper()], None, Limits()).single == {role: name.upper()}


def test_every_limit_is_documented():
    units = {"GiB": 2**30, "MiB": MEBIBYTE, "million": 10**6}
    for name, value in vars(Limits()).items():
        found = re.search(rf"\| `{name}` \| ([\d,]+) ?(GiB|MiB|million)?", PAGE)
        assert found is not None, name
        documented = int(found[1].replace(",", "")) * units.get(found[2], 1)
        # On a machine with little memory, that limit is lower.
        assert value == documented or (name == "memory" and value < documented)


def test_columns_per_class_are_put_in_the_order_of_their_numbers():
    found = roles(["logit_10", *(f"logit_{i}" for i in range(10)), "id"], None, Limits())
    assert found.per_class == tuple(f"logit_{i}" for i in range(11))
    assert found.classes is None
    assert found.kind == "logits"


def test_columns_per_class_keep_names_with_underscores():
    found = roles(["prob_hot_dog", "prob_a b"], None, Limits())
    assert found.classes == ("hot_dog", "a b")
    assert found.kind == "probabilities"


def test_columns_per_class_beside_whole_scores_are_attributes():
    assert roles(["logits", "logit_0"], None, Limits()).other == ("logit_0",)


def test_names_that_are_asked_for_must_be_there():
    with pytest.raises(ValueError, match="'gold' for `label`, as `names` says, but the file has 'id', 'x'"):
        roles(["id", "x"], {"label": "gold"}, Limits())
    with pytest.raises(ValueError, match="the keys of `names` among .* but got 'truth'"):
        roles(["id", "x"], {"truth": "x"}, Limits())


def test_two_columns_of_one_class_are_told():
    with pytest.raises(ValueError, match="one column per class"):
        roles(["logit_a", "logits_a"], None, Limits())
