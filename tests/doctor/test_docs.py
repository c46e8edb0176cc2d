"""docs/doctor.md has a section for each check."""

from __future__ import annotations

import re
from pathlib import Path

from usersync.doctor import CANARY
from usersync.doctor import CHECKS as WITHOUT_CANARY

CHECKS = sorted((*WITHOUT_CANARY, *CANARY), key=lambda check: check.code)
PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"


def test_the_page_has_a_section_for_each_check_with_its_title():
    found = re.findall(r"^## (.+)\n\n\*(.+)\*\n", PAGE.read_text("utf-8"), re.MULTILINE)
    assert found == [(check.code, check.title) for check in CHECKS]
    assert len(re.findall(r"^## ", PAGE.read_text("utf-8"), re.MULTILINE)) == len(CHECKS)


def test_each_section_has_a_fix():
    _, *sections = PAGE.read_text("utf-8").split("\n## ")
    assert [section[:4] for section in sections if "**Fix**: " not in section] == []


def test_each_check_has_a_file_with_its_number():
    folder = Path(__file__).parents[2] / "src" / "usersync" / "doctor" / "checks"
    numbers = sorted(path.name[:4].upper() for path in folder.glob("d[0-9]*.py"))
    assert numbers == [check.code for check in CHECKS] == [f"D{n:03}" for n in range(1, len(CHECKS) + 1)]
