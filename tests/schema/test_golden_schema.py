"""The schema as it is in the database, compared with the text in tests/golden.

To refresh it after a change that is meant: UPDATE_GOLDEN=1 pytest tests/schema/test_golden_schema.py --pg 18
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from logged import logged

if TYPE_CHECKING:
    from usersync.settings import Settings

GOLDEN = Path(__file__).parent.parent / "golden"

VARIANTS = {
    "schema": {},
    "schema_elsewhere": {
        "users_table": "app.members",
        "key": "auth_id",
        "on_delete": "soft",
        "columns": {
            "email": {"from": "email", "personal": False},
            "plan": {"from": "app_metadata.plan", "default": "free", "owner": "app"},
            "age": {"from": "user_metadata.age", "type": "integer"},
            "gone": "deleted_at",
        },
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


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_schema_is_the_one_on_record(installer, catalog, variant):
    settings: Settings = logged(VARIANTS[variant])
    before = catalog()
    installer.apply(settings)
    text, golden = made(before, catalog()), GOLDEN / f"{variant}.sql"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    wanted = golden.read_text(encoding="utf-8") if golden.exists() else ""
    difference = "\n".join(
        difflib.unified_diff(wanted.splitlines(), text.splitlines(), "golden", "made", n=1)
    )
    assert not difference, f"{difference}\n\nIf this is meant: make golden"


def test_a_database_on_record_is_one_that_nobody_else_gets_into(installer, catalog):
    installer.apply(logged())
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
