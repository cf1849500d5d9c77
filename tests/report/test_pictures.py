import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

import remnant.analyses
from remnant.finding import NotApplicable
from remnant.registry import UnknownNameError
from remnant.report import pictures
from tests.report import synthetic


def drawn(draw, prefix="one"):
    with matplotlib.rc_context(pictures._style()):
        figure = Figure()
        draw(figure.subplots())
        return pictures.inline_svg(figure, prefix=prefix, title="How <many>?")


def test_a_picture_has_a_title_a_description_and_the_role_of_an_image():
    def draw(axes):
        axes.plot([0, 1], [0, 1], label="dense & pruned")
        axes.set(xlabel="sparsity", ylabel="PIEs", title="A title")
        axes.legend()

    root = ElementTree.fromstring(drawn(draw))
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "one-title one-description"
    texts = {element.get("id"): element.text for element in root if element.tag in ("title", "desc")}
    assert texts == {
        "one-title": "How <many>?",
        "one-description": "A title; x axis: sparsity; y axis: PIEs; series: dense & pruned.",
    }


def test_text_stays_text_in_the_font_of_the_page():
    svg = drawn(lambda axes: axes.set_xlabel("sparsity"))
    assert ">sparsity</text>" in svg
    assert "DejaVu" not in svg
    assert "font-family" not in svg


def test_two_pictures_share_no_id():
    svgs = [drawn(lambda axes: axes.plot([0, 1], "o-"), prefix=p) for p in ("one", "two")]
    ids = [re.findall(r'\bid="([^"]+)"', svg) for svg in svgs]
    assert ids[0]
    assert all(len(set(found)) == len(found) for found in ids)
    assert not set(ids[0]) & set(ids[1])
    for svg, found in zip(svgs, ids, strict=True):
        assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) <= set(found)


def test_ids_and_numbers_do_not_carry_the_last_digits_of_a_layout():
    def draw(jitter):
        return drawn(lambda axes: (axes.plot([0, 1 + jitter], "o-"), axes.set_position([0.1, 0.1, 0.8 + jitter, 0.8])))

    assert draw(0) == draw(1e-13)
    assert pictures._shorter("M -0.0000001 1.500000 L 2.345678 -1.0e-9 z") == "M 0 1.5 L 2.35 0 z"


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ("#000000", "currentColor"),
        ("#000", "currentColor"),
        ("#ffffff", "var(--paper)"),
        ("#808080", "color-mix(in srgb,currentColor 50%,var(--paper))"),
        (pictures.PALETTE[1], "var(--c1)"),
        ("#1f77b4", "var(--c0)"),
        ("#D62728", "var(--c1)"),
        ("#00ff00", "color-mix(in srgb,#00ff00 85%,currentColor)"),
        ("none", "none"),
        ("url(#gradient)", "url(#gradient)"),
    ],
)
def test_colours_become_those_of_the_page(colour, expected):
    assert pictures._colour(colour) == expected


def test_no_fixed_black_or_white_is_left():
    svg = drawn(lambda axes: (axes.plot([0, 1], "k--"), axes.bar([0], [1], color="white", edgecolor="black")))
    assert not re.search(r"#(000|fff)", svg)


def test_lines_of_the_cycle_take_the_variables_of_the_style_sheet():
    svg = drawn(lambda axes: [axes.plot([0, i]) for i in range(9)])
    assert [f"stroke:var(--c{i})" in svg for i in range(8)] == [True] * 8


def test_many_points_are_drawn_as_pixels():
    rng = np.random.default_rng(0)
    svg = drawn(lambda axes: axes.scatter(*rng.random((2, 20_000))))
    assert "<image" in svg
    assert len(svg) < 200_000
    assert "<image" not in drawn(lambda axes: axes.scatter(*rng.random((2, 100))))


def test_a_large_drawing_is_redrawn_as_pixels():
    rng = np.random.default_rng(0)
    svg = drawn(lambda axes: [axes.plot(rng.random(700)) for _ in range(30)])
    assert "<image" in svg
    assert len(svg) < 400_000


def test_the_same_finding_gives_the_same_bytes_whatever_the_users_style(monkeypatch):
    monkeypatch.setattr(remnant.analyses, "analysis", synthetic.analysis, raising=False)
    finding = synthetic.audit().findings[0]
    first, note = pictures.picture(finding, prefix="x")
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30}):
        second, _ = pictures.picture(finding, prefix="x")
    assert first == second
    assert not note


@pytest.mark.parametrize(
    ("error", "note"), [(NotApplicable("No pairs."), "No pairs."), (UnknownNameError("x"), "not installed")]
)
def test_a_finding_that_cannot_be_drawn_says_why(monkeypatch, error, note):
    def analysis(name):
        raise error

    monkeypatch.setattr(remnant.analyses, "analysis", analysis, raising=False)
    svg, reason = pictures.picture(synthetic.audit().findings[0], prefix="x")
    assert svg is None
    assert note in reason


def test_labels_of_schemes_become_names_where_they_stand_alone():
    labels = [
        "dense",
        "static-int8",
        "magnitude-pruning(sparsity=0.9)",
        "magnitude-pruning(sparsity=0.9) + static-int8",
    ]

    def draw(axes):
        axes.plot([0, 1], label="magnitude-pruning\n(sparsity=0.9)")
        axes.set_yticks([0, 1], ["dense", "magnitude-pruning\n(sparsity=0.9) +\nstatic-int8"])
        axes.set_xlabel("static-int8 against dense")
        axes.legend()

    with matplotlib.rc_context(pictures._style()):
        figure = Figure()
        draw(figure.subplots())
        pictures._name_schemes(figure, labels)
        svg = pictures.inline_svg(figure, prefix="x", title="?")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"Dense", "sparsity 0.9,", "then static int8", "static-int8 against dense"} <= set(texts)
    assert texts.count("Magnitude pruning,") == 2
    assert "Magnitude pruning, sparsity 0.9" in svg.partition("</desc>")[0].replace("\n", " ")


def test_ticks_of_logarithmic_axes_are_numbers():
    def draw(axes):
        axes.set(xscale="log", yscale="log", xlim=(0.0005, 3e7), ylim=(2, 8))

    texts = re.findall(r">([^<>]+)</text>", drawn(draw))
    assert not [text for text in texts if "math" in text or "$" in text]
    assert {"0.001", "0.1", "10", "1,000", "1e5"} & set(texts)
    assert {"1e7"} & set(texts) or {"1e6"} & set(texts)
    assert {"3", "4"} <= set(texts), "an axis within a decade names the numbers between"
