"""The installed schema, read from the catalog, equals the text in tests/golden.

For other settings, tests/golden has only the lines that differ.

After an intended change, run: make golden
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from audit_settings import with_audit_log

if TYPE_CHECKING:
    from collections.abc import Mapping

GOLDEN = Path(__file__).parent.parent / "golden"

ELSEWHERE = {
    "users_table": "app.members",
    "key": "auth_id",
    "on_delete": "soft",
    "columns": {
        "email": {"from": "email", "personal": False},
        "plan": {"from": "app_metadata.plan", "default": "free", "owner": "app"},
        "age": {"from": "user_metadata.age", "type": "integer"},
        "gone": "deleted_at",
    },
}


def made(before, after) -> str:
    lines = [
        "-- What usersync adds to a database, read from the catalog. To refresh: UPDATE_GOLDEN=1 pytest",
        "-- tests/schema/test_golden_schema.py --pg 18",
    ]
    for key in sorted(after):
        if before.get(key) != after[key]:
            lines += ["", f"-- {' '.join(key)}", after[key]]
    assert not before.keys() - after.keys()
    return "\n".join(lines) + "\n"


def difference(before: str, after: str, context: int = 1) -> str:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), "golden", "made", n=context, lineterm=""
    )
    return "".join(f"{line}\n" for line in lines)


def without_line_numbers(difference: str) -> str:
    """Remove line numbers, because an added line would change the numbers of all later lines."""
    return re.sub(r"^@@ .* @@$", "@@", difference, flags=re.MULTILINE)


def compare(text: str, golden: Path) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    found = difference(golden.read_text(encoding="utf-8") if golden.exists() else "", text)
    assert not found, f"{found}\n\nIf the change is intended, run: make golden"


@pytest.fixture
def installed(installer, catalog):
    def install(settings: Mapping[str, Any]) -> str:
        before = catalog()
        installer.apply(with_audit_log(settings))
        return made(before, catalog())

    return install


SCHEMA = GOLDEN / "schema.sql"


def test_the_schema_equals_the_golden_file(installed):
    compare(installed({}), SCHEMA)


def test_other_settings_change_only_the_recorded_lines(installed):
    found = difference(SCHEMA.read_text("utf-8"), installed(ELSEWHERE), 0)
    compare(without_line_numbers(found), GOLDEN / "schema_elsewhere.diff")


def test_execute_is_granted_to_service_role_only(installer, catalog):
    installer.apply(with_audit_log())
    granted = {
        key: value
        for key, value in catalog().items()
        if " granted to " in key[1] and "usersync" in key[1] and not key[1].startswith("public.")
    }
    assert granted == {}
    public = {
        name: value
        for (heading, name), value in catalog().items()
        if heading == "function" and name.startswith("public.") and " granted to " in name
    }
    assert {name.partition(" granted to ")[2] for name in public} == {"service_role"}
    assert set(public.values()) == {"EXECUTE"}
