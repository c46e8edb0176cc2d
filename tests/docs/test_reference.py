"""The reference page contains and describes every public name."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def names():
    """Every public name and every public method, each with its object."""
    sys.path.insert(0, str(DOCS))
    try:
        import generate  # noqa: PLC0415 - in docs/, which is no package
    finally:
        sys.path.remove(str(DOCS))
    found = {path: each for _, path, each in generate.public_names()}
    members = {
        f"{path}.{name}": member
        for path, each in found.items()
        if each.is_class
        for name, member in each.all_members.items()
        if not name.startswith("_") and member.canonical_path.startswith("usersync.")
    }
    return found | {path: each for path, each in members.items() if each.is_function}


@pytest.mark.slow
def test_every_name_is_on_the_page_and_described(names):
    page = (DOCS / "reference.md").read_text()
    assert len(names) > 200
    for path, each in names.items():
        assert each.has_docstring, path
        if path.count(".") == 1:
            assert f"::: {path}\n" in page, path


@pytest.mark.slow
def test_methods_of_the_audit_log_say_whether_they_block(names):
    """The docstring of AuditLog says that a method blocks only if its description says so."""
    waiting = {
        *(
            "search",
            "history",
            "get",
            "flush",
            "drain",
            "drain_all",
            "retry_quarantined",
            "close",
            "record_in",
        ),
        "record_prepared_in",
    }
    for name in waiting:
        assert re.search(r"\bBlocks\b", names[f"usersync.AuditLog.{name}"].docstring.value), name
