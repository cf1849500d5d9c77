"""The documentation holds against the code."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from remnant.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
# Blocks of the generated reference are signatures, not programs.
PROGRAMS = [page for page in PAGES if "```python" in page.read_text() and "reference" not in page.parts]
BIBLIOGRAPHY = ROOT / "src/remnant/report/refs.bib"


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = re.findall(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)", text)
    broken = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_have_one_title(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    assert len(re.findall(r"^# ", text, flags=re.MULTILINE)) == 1


def test_the_reference_is_generated_from_the_code():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for page, make in module.PAGES.items():
        assert (ROOT / "docs/reference" / page).read_text() == make().rstrip() + "\n", "run `make docs`"


def test_every_command_is_explained_outside_the_reference():
    text = "\n".join(page.read_text() for page in PAGES if "reference" not in page.parts)
    assert [command for command in COMMANDS if f"remnant {command}" not in text] == []


def test_every_cited_key_is_in_the_bibliography():
    keys = set(re.findall(r"@\w+\{([^,\s]+),", BIBLIOGRAPHY.read_text()))
    cited = set()
    for path in ROOT.glob("src/remnant/**/*.py"):
        cited |= set(re.findall(r"\b([a-z]{4,}(?:19|20)\d\d[a-z]{2,})\b", path.read_text()))
    assert cited - keys == set()
    assert len(keys) > 10


def test_commands_in_the_documentation_are_ones_of_the_makefile_or_the_program():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for page in PAGES:
        for block in re.findall(r"```(?:bash|console|sh)\n(.*?)```", page.read_text(), flags=re.DOTALL):
            for line in block.splitlines():
                words = line.removeprefix("$ ").split()
                if words[:1] == ["make"]:
                    assert words[1] in targets, f"{name(page)}: {line}"
                if words[:1] == ["remnant"] and len(words) > 1:
                    assert words[1] in COMMANDS or " ".join(words[1:3]) in COMMANDS, f"{name(page)}: {line}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PROGRAMS, ids=name)
def test_python_in_the_documentation_runs(page, tmp_path):
    """The blocks of a page run one after another in an empty folder, as a reader would type them."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)
    script = tmp_path / "page.py"
    script.write_text(
        "if __name__ == '__main__':\n" + "".join("    " + li for b in blocks for li in b.splitlines(True))
    )
    for toml in re.findall(r"```toml\n# (\S+)\n(.*?)```", page.read_text(), flags=re.DOTALL):
        (tmp_path / toml[0]).write_text(toml[1])
    run = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
