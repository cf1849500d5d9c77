"""Strings that attack whoever shows them, and the answers of models that are named so."""

import html
import re
from collections.abc import Sequence

import numpy as np

from remnant import ingest
from remnant.versus import Compared, Side, compare
from tests.report.page import Page

STRINGS = (
    "<script>document.title='ran'</script>",
    "<img src=x onerror=\"document.title='ran'\">",
    '" onmouseover="document.title=\'ran\'" autofocus onfocus="document.title=\'ran\'" x="',
    "' onload='document.title=1' x='",
    "</style></title></desc></textarea><script>document.title='ran'</script>",
    "</text></svg><svg onload=document.title='ran'>]]><!--",
    "{{ 7 * 191 }}{% for x in y %}{# ${7*191}",
    "$\\frac{$ $x_{$ \\mathdefault{",
    "[a](javascript:alert(1)) ![b](https://evil.example/b.png) <http://evil.example> @team www.evil.example|`c`\n# d",
    "\x1b[2J\x1b]0;ran\x07\x1b]8;;https://evil.example\x1b\\c\x9b31m",
    "\u202egnp.exe\u2066\u200f\u2028\ufeff",
    "a\x00b\x01\x08\x7f\x85\x0c\r\nc",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    'd;=HYPERLINK("https://evil.example")',
    "\t=1+1",
    "../../../escaped",
    "/tmp/escaped",
    "CON",
    "::error file=x::y ##[command]z",
    "[bold]x[/] [/nope] [link=https://evil.example]y[/link]",
    "\ufffe\uffff\U0010ffff",
    "L" * 990,
)
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")
"""What no file for people and no terminal may hold as it is."""


def predictions(noise: float, name: str) -> ingest.Predictions:
    """Answers on 10 examples of each class, with a hostile string wherever a file can have one."""
    rng = np.random.default_rng(int(10 * noise))
    num = len(STRINGS)
    rows = np.arange(10 * num)
    logits = np.random.default_rng(7).normal(size=(len(rows), num)) + 3 * np.eye(num)[rows % num]
    return ingest.from_arrays(
        (logits + noise * rng.normal(size=logits.shape)).astype(np.float32),
        label=rows % num,
        ids=np.array([f"{STRINGS[i % num]}{i}" for i in rows]),
        classes=STRINGS,
        columns={name: np.array([STRINGS[(i + k) // 40 % num] for i in rows]) for k, name in enumerate(STRINGS[:4])},
        text=[f"{STRINGS[(7 * i) % num]} {'long ' * 1000}" for i in rows],
        options=[list(STRINGS) for _ in rows],
        source={"kind": "npz", "name": name, "sha256": "0" * 64, "bytes": 1, "notes": [name]},
        model_bytes=int(1000 - 100 * noise),
        latency=0.1 + noise,
    )


def compared(names: Sequence[str] = STRINGS[:2]) -> Compared:
    """Sides of hostile names; the first is the reference."""
    return compare(*(Side(name, (predictions(1.5 * (k > 0), name),)) for k, name in enumerate(names)))


def check_page(source: str) -> Page:
    """The page, if it holds nothing that runs, loads or leads anywhere but to what remnant wrote."""
    page = Page(source)
    allowed = {"a", "img", "link", "use", "image"}
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form", "input", "foreignobject"), tag
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{tag} has {name}"
            assert re.fullmatch(r"[a-zA-Z:-]+", name), name
            if name in ("src", "href", "action", "srcset", "xlink:href"):
                assert tag in allowed
                assert re.match(
                    r"data:(image/(png|webp);base64,|,?$)|#|tables/|report\.json$|https://(doi|arxiv|\w)", value
                )
                assert "evil" not in value
            if name == "style":
                assert not re.search(r"url\((?!#)|expression|@import", value)
    styles = [data for path, data in page.words if path.startswith("html.") and "style." in path]
    assert not any(name in style for name in STRINGS for style in styles)
    assert not HIDDEN.search(source)
    assert html.unescape(STRINGS[0]) in page.text()
    return page
