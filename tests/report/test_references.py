import re
from pathlib import Path

import pytest

import remnant
from remnant.report import references

ENTRY = """
@article{a2019b,
  author = {Roe, Jane and van der Berg, Jan and Ann Doe},
  title = {Do {CIFAR} Models {F}orget?},
  journal = {Journal of Tests},
  year = {2019},
  doi = {10.1/x},
}
@misc{c2020d, author = {Roe, Jane}, title = {Alone}, year = {2020}}
"""


def test_entries_are_read_with_nested_braces_and_both_orders_of_names():
    found = references.parse(ENTRY)
    first = references.Reference(
        "a2019b",
        ("Roe", "van der Berg", "Doe"),
        "2019",
        "Do CIFAR Models Forget?",
        "Journal of Tests",
        "https://doi.org/10.1/x",
    )
    assert found == {"a2019b": first, "c2020d": references.Reference("c2020d", ("Roe",), "2020", "Alone", "", "")}
    assert first.short == "Roe et al. (2019)"
    assert first.long == "Roe, van der Berg & Doe (2019). Do CIFAR Models Forget? Journal of Tests."
    assert found["c2020d"].long == "Roe (2020). Alone."


def test_faults_of_a_bibliography_are_named():
    with pytest.raises(ValueError, match="'a2019b' comes twice"):
        references.parse(ENTRY + ENTRY)
    with pytest.raises(ValueError, match=r"'x' to have \['author', 'year'\]"):
        references.parse("@misc{x, title = {T}}")
    with pytest.raises(ValueError, match="closing brace"):
        references.parse("@misc{x, title = {T")


def test_a_citation_with_sections_is_split_into_keys():
    assert references.split("hooker2019what, eq. 3; zhu2017prune") == [
        ("hooker2019what", ", eq. 3"),
        ("zhu2017prune", ""),
    ]
    assert references.split("") == []
    assert references.readable("hooker2019what, eq. 3; unknown2000") == "Hooker et al. (2019), eq. 3; unknown2000"


def test_cited_entries_come_once_in_order_of_authors():
    assert [r.key for r in references.cited(["zhu2017prune", "feldman2020what, eq. 1; zhu2017prune", "nobody"])] == [
        "feldman2020what",
        "zhu2017prune",
    ]


def test_every_entry_has_a_venue_and_a_safe_address():
    for key, reference in references.bibliography().items():
        assert reference.venue, key
        assert not reference.url or reference.url.startswith("https://"), key


def test_every_key_that_the_code_cites_is_in_the_bibliography():
    known = references.bibliography()
    pattern = re.compile(r"\b[a-z]{2,}(?:19|20)\d\d[a-z]{2,}\b")
    root = Path(remnant.__file__).parent
    missing = {
        f"{key} ({path.relative_to(root)})"
        for path in root.rglob("*.py")
        for key in pattern.findall(path.read_text(encoding="utf-8"))
        if key not in known
    }
    assert not missing


def test_entries_of_the_same_authors_and_year_get_letters():
    entry = "@misc{{{key}, author = {{Roe, J. and Doe, J.}}, title = {{T}}, year = {{2019}}}}\n"
    found = references.parse("".join(entry.format(key=key) for key in ("roe2019z", "roe2019a")))
    assert {key: reference.short for key, reference in found.items()} == {
        "roe2019z": "Roe & Doe (2019b)",
        "roe2019a": "Roe & Doe (2019a)",
    }
