import re
import shutil
import subprocess

import pytest
from PIL import Image

from remnant.report import write
from tests.report import synthetic
from tests.report.page import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    import remnant.analyses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remnant.analyses, "analysis", synthetic.analysis, raising=False)
        return write(synthetic.audit(), tmp_path_factory.mktemp("report"), thumbnails=synthetic.thumbnails)[
            "report.html"
        ]


@pytest.fixture
def browse(tmp_path):
    """Runs Chromium without a window on a page and gives what it prints."""

    def run(*arguments):
        command = [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
            f"--user-data-dir={tmp_path / 'profile'}", *arguments,
        ]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return run


def test_it_renders_and_runs_no_scripts(report, browse, tmp_path):
    """The page forbids itself scripts, so what is seen here is what a reader without scripts sees."""
    planted = tmp_path / "planted.html"
    planted.write_text(report.read_text().replace("</body>", "<script>document.title = 'ran'</script></body>"))
    for path in (report, planted):
        page = Page(browse("--dump-dom", path.as_uri()))
        assert page.text("title.").startswith("What compression forgot")
        assert "What was forgotten?" in page.text("h2.")
        assert len(page.all("svg")) == 3
        assert page.all("img")


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_the_page_never_scrolls_sideways(report, browse, tmp_path, width):
    """A frame of the width of a phone measures the page in it; only the frame's page has no scripts."""
    inner = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", report.read_text())
    script = """<script>addEventListener("load", () => {
      const page = document.documentElement, clips = "auto scroll hidden".split(" ");
      const inScroller = e => e && (clips.includes(getComputedStyle(e).overflowX) || inScroller(e.parentElement));
      const wide = [...document.body.querySelectorAll("*")].filter(e =>
        e.getBoundingClientRect().right > page.clientWidth + 1 && !inScroller(e.parentElement));
      const names = wide.slice(0, 3).map(e => e.outerHTML.slice(0, 80));
      parent.document.title = [page.clientWidth, page.scrollWidth, ...names].join("|");
    })</script>"""
    (tmp_path / "inner.html").write_text(
        inner.replace("</body>", f"{script}</body>").replace("<details", "<details open")
    )
    frame = f'<iframe src="inner.html" style="width:{width}px;height:900px;border:0"></iframe>'
    (tmp_path / "outer.html").write_text(f"<!doctype html><title>waiting</title><body>{frame}")
    dom = browse(
        "--allow-file-access-from-files", "--virtual-time-budget=5000", "--window-size=1400,1000", "--dump-dom",
        (tmp_path / "outer.html").as_uri(),
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
    assert title is not None
    assert title[1] == f"{width}|{width}"


@pytest.mark.parametrize(("scheme", "ground"), [("1", (252, 251, 248)), ("0", (23, 22, 20))], ids=["light", "dark"])
def test_it_follows_the_colour_scheme(report, browse, tmp_path, scheme, ground):
    shot = tmp_path / "shot.png"
    browse(
        f"--blink-settings=preferredColorScheme={scheme}",
        f"--screenshot={shot}",
        "--window-size=800,600",
        report.as_uri(),
    )
    image = Image.open(shot).convert("RGB")
    assert image.size == (800, 600)
    assert image.getpixel((2, 2)) == ground
    assert len(set(image.resize((200, 150)).get_flattened_data())) > 20


def test_it_prints_with_all_details_open(report, browse, tmp_path):
    pdf = tmp_path / "report.pdf"
    browse(f"--print-to-pdf={pdf}", "--no-pdf-header-footer", report.as_uri())
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes()))
    shut = tmp_path / "shut.html"
    shut.write_text(report.read_text().replace("details::details-content", "details::no-such-thing"))
    browse(f"--print-to-pdf={pdf}", "--no-pdf-header-footer", shut.as_uri())
    assert pages > len(re.findall(rb"/Type\s*/Page\b", pdf.read_bytes())) >= 1
