"""The documentation agrees with the code: error codes, generated pages, names of tests, links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from usersync import errors

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]

CODES = {
    each.code: each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, errors.UsersyncError) and each.code != "US000"
}


#: Somebody else may own the name on PyPI, and such a command would install their package. Remove this with
#: the first release.
INSTALLS = re.compile(r"(?:pip|uv pip|pipx|uv tool) (?:install|add) [^\n`#]*\busersync\b(?!\.)|uvx usersync")


def test_no_page_installs_from_pypi_before_the_first_release():
    places = [*PAGES, *ROOT.glob("src/**/*.py"), *ROOT.glob("deploy/**/*.*"), *ROOT.glob("examples/**/*.*")]
    rule = "no text in this repository may tell users to `pip install usersync`"
    found = {
        str(place.relative_to(ROOT)): match[0]
        for place in places
        if place.is_file() and place.suffix != ".pyc"
        for match in INSTALLS.finditer(place.read_text().replace(rule, ""))
    }
    assert found == {}


def test_every_error_has_an_entry_and_every_entry_an_error():
    documented = re.findall(r"^## (US\d+)$", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    assert documented == sorted(CODES)


@pytest.mark.parametrize("code", CODES)
def test_the_entry_of_an_error_code_names_its_exception(code):
    text = (ROOT / "docs/errors.md").read_text()
    entry = text.split(f"## {code}\n")[1].split("\n## ")[0]
    assert f"`{CODES[code].__name__}`" in entry.splitlines()[1]


def test_the_tree_of_exceptions_in_the_docstring_is_complete():
    assert set(re.findall(r"── (\w+) +(US\d+)", errors.__doc__)) == {
        (each.__name__, code) for code, each in CODES.items()
    }


@pytest.mark.slow
def test_pages_generated_from_the_code_are_up_to_date():
    check = subprocess.run(
        [sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stderr


def test_the_tests_that_the_documentation_names_exist():
    named = {path for page in PAGES for path in re.findall(r"`(tests/[\w/.-]+)`", page.read_text())}
    assert len(named) > 10
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as on GitHub."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_have_existing_targets(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


@pytest.mark.parametrize("page", ["audit.md", "known-issues.md", "lifecycle.md"])
def test_every_test_that_a_table_of_proofs_names_exists(page):
    tests = "\n".join(each.read_text() for each in ROOT.glob("tests/**/test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / page).read_text()))
    assert named
    assert {name for name in named if f"def {name}(" not in tests} == set()


def test_every_known_issue_names_a_test():
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", (ROOT / "docs/known-issues.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    assert all("`test_" in proof for _, proof in rows)
