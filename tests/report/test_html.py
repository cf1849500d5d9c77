import itertools
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import remnant.analyses
from remnant.finding import Exhibit, Finding
from remnant.report import html
from tests.report import synthetic
from tests.report.page import Page

pytestmark = pytest.mark.usefixtures("drawable")


@pytest.fixture(scope="module")
def source():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remnant.analyses, "analysis", synthetic.analysis, raising=False)
        return html.render(synthetic.audit(), synthetic.thumbnails)


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def test_names_from_data_are_shown_and_never_run(source, page):
    assert "<script" not in source
    assert "<script>alert('x')</script>" in page.text()
    assert "by hand <b>" in page.text("h1.")


def test_every_number_of_the_prose_is_one_of_a_claim(page):
    number = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
    made = {n for f in synthetic.audit().findings for c in f.claims for n in number.findall(c.text())}
    said = number.findall(page.text("div.prose", outside="span.name").replace("−", "-"))
    assert len(said) > 20
    assert set(said) <= made


def test_nothing_is_loaded_from_outside(source, page):
    assert not page.all("script")
    assert not page.all("iframe")
    loads = [attributes["src"] for tag, attributes in page.elements if "src" in attributes]
    loads += [attributes["href"] for tag, attributes in page.elements if "href" in attributes and tag != "a"]
    assert loads
    assert all(load.startswith(("data:", "#")) for load in loads)
    assert not re.search(r"url\((?!#)|@import", source)
    assert all(a["href"].startswith(("#", "https://", "tables/", "report.json")) for a in page.all("a"))
    assert any("default-src 'none'" in meta.get("content", "") for meta in page.all("meta"))


def test_links_inside_the_page_lead_somewhere_and_ids_are_unique(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for _, attributes in page.elements:
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
        for name in attributes.get("aria-labelledby", "").split():
            assert name in ids


def test_a_screen_reader_finds_its_way(page):
    tags = [tag for tag, _ in page.elements]
    assert page.all("html") == [{"lang": "en"}]
    assert [tags.count(tag) for tag in ("main", "h1", "header", "nav", "footer")] == [1] * 5
    assert page.all("a")[0] == {"class": "skip", "href": "#main"}
    levels = [int(tag[1]) for tag in tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert tags.count("caption") == tags.count("table")
    assert all(th.get("scope") in ("col", "row") for th in page.all("th"))
    assert all(image["alt"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-labelledby"] for svg in page.all("svg"))
    regions = [a for _, a in page.elements if a.get("tabindex") == "0"]
    assert all("aria-label" in a or "aria-labelledby" in a for a in regions)


def test_missing_values_are_dashes(page):
    assert not re.search(r"\b(nan|none|nat|inf)\b", page.text().replace("None of", ""), re.IGNORECASE)
    assert "–" in page.text("td.")


def test_each_finding_has_question_table_picture_caveats_claims_and_source(page):
    text = page.text()
    for finding in synthetic.audit().findings:
        assert finding.question in page.text("h2.")
    assert len(page.all("svg")) == 3
    assert "Few seeds under magnitude pruning at sparsity 0.9." in page.text("aside.")
    assert "by hand, no interval" in text
    assert "6.00\u202f% to 8.00\u202f%" in text
    assert "Hooker et al. (2019)" in text
    assert "What Do Compressed Deep Neural Networks Forget?" in text
    assert "no trial trained on a subset" in page.text("dl.reasons")
    assert "30 of 40 rows are shown" in text


def test_galleries_show_images_with_their_labels(page):
    captions = page.text("figcaption.")
    assert "true <script>alert('x')</script>" in captions
    assert len(page.all("img")) == 8 + 2 * 2
    assert "PIEs of magnitude pruning at sparsity 0.9" in page.text("h3.")
    assert "3 more" in page.text("summary.")


def test_without_images_galleries_are_captions():
    page = Page(html.render(synthetic.audit()))
    assert not page.all("img")
    assert "dense cat" in page.text("figcaption.")


def test_images_over_the_budget_are_named(monkeypatch):
    monkeypatch.setattr(html, "_IMAGE_BYTES", 2000)
    page = Page(html.render(synthetic.audit(), synthetic.thumbnails))
    assert 0 < len(page.all("img")) < 12
    assert "images are left out" in page.text()


def test_ten_schemes_with_big_tables_and_pictures_stay_below_five_megabytes():
    schemes = tuple(f"magnitude-pruning(sparsity={i / 10})" for i in range(10))
    audit = synthetic.audit(schemes, rows=10_000)
    wide = pd.DataFrame(np.random.default_rng(0).random((1000, 500)), columns=[f"c{i}" for i in range(500)])
    gallery = tuple(Exhibit("test", f"test-{i:05}", ("true: cat", "dense: dog")) for i in range(500))
    claims = tuple(synthetic.claim("x", f"class {i}", float(i)) for i in range(5000))
    many = [
        Finding(f"more{i}", "?", {}, claims, {"wide": wide}, galleries={f"G{k}": gallery for k in range(10)})
        for i in range(3)
    ]

    def noise(split, ids):
        rng = np.random.default_rng(0)
        return {name: rng.integers(0, 256, (48, 48, 3), dtype=np.uint8) for name in ids}

    source = html.render(replace(audit, findings=(*audit.findings, *many)), noise)
    assert 2_000_000 < len(source.encode()) < html.MOST_BYTES


def test_a_page_that_cannot_fit_is_refused(monkeypatch):
    monkeypatch.setattr(html, "MOST_BYTES", 50_000)
    with pytest.raises(ValueError, match="Expected findings that fit on a page of 50,000 bytes"):
        html.render(synthetic.audit())


def test_an_audit_without_findings_says_what_was_not_run():
    audit = replace(
        synthetic.audit(), findings=(), not_run={"mismatches": "Only one scheme.", "exemplars": "One seed."}
    )
    text = Page(html.render(audit)).text()
    assert "Only one scheme." in text
    assert "It was not asked." in text


def test_damaged_trials_are_said_at_the_top():
    audit = synthetic.audit()
    audit = replace(audit, findings=(), about={**audit.about, "damaged": {"1a2b": "logits.safetensors is missing"}})
    page = Page(html.render(audit))
    assert "1 trial is damaged and left out" in page.text("header.")
    assert "logits.safetensors is missing" in page.text("section.analysis")


def test_a_recipe_is_shown_by_its_architecture_and_in_full():
    audit = synthetic.audit()
    recipe = {"dataset": "digits", "architecture": "resnet20", "milestones": [0.5, 0.75]}
    page = Page(html.render(replace(audit, findings=(), about={**audit.about, "recipe": recipe})))
    assert "resnet20" in page.text("header.")
    assert "milestones 0.5, 0.75" in page.text("section.analysis")


def test_a_title_can_be_given():
    assert Page(html.render(synthetic.audit(), heading="Tuesday <3")).text("h1.") == "Tuesday <3"


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_has_enough_contrast(scheme):
    """WCAG 2.1, success criterion 1.4.3: at least 4.5 to 1; 1.4.11: at least 3 to 1 for graphics."""
    css = html.files("remnant.report").joinpath("style.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6});", blocks[["light", "dark", "print"].index(scheme)]))
    assert {"paper", "raised", "ink", "soft", "accent", "c0", "c7"} <= set(colours)
    for ground in ("paper", "raised"):
        for text in ("ink", "soft", "accent"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for i in range(8):
        assert _contrast(colours[f"c{i}"], colours["paper"]) >= 3, i


def _contrast(a, b):
    """Contrast ratio of WCAG 2.1 from relative luminances."""
    first, second = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (first + 0.05) / (second + 0.05)


def _luminance(colour):
    colour = colour.lstrip("#")
    colour = "".join(2 * c for c in colour) if len(colour) == 3 else colour
    channels = np.array([int(colour[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
