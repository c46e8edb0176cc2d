"""``usersync explain`` prints the documentation of a code."""

from __future__ import annotations

import json
import zipfile
from dataclasses import fields
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from usersync.cli.explain import PAGES, _complete, sections
from usersync.config.retired import MOVED, RETIRED
from usersync.config.settings import Settings
from usersync.doctor import CHECKS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("code", "words"), [("US301", "usersync apply"), ("d004", "on_auth_user_created"), ("US003", "budget_ms")]
)
def test_explain_prints_the_section_of_a_code(usersync, code, words):
    done = usersync("explain", code)
    assert done.code == 0
    assert done.out.startswith(code.upper())
    assert words in done.out
    assert "](" not in done.out
    assert "**" not in done.out


def test_explain_prints_json(usersync):
    found = json.loads(usersync("explain", "US301", "--json").out)
    assert found["code"] == "US301"
    assert "NotInstalledError" in found["text"]


@pytest.mark.parametrize("name", [each.name for each in fields(Settings)])
def test_explain_prints_the_section_of_each_setting(usersync, name):
    done = usersync("explain", name)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{name}\n")
    assert len(done.out) > 60


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ON_DELETE", "anonymize"),
        ("on_delete = ", 'Default: "anonymize"'),
        ("columns.email", "The mapping"),
        ("[audit] table", "the name of the log"),
        ("audit.table", "the name of the log"),
        ("[audit]", "user.created"),
        ("user_events = true", "user.created"),
        ("[audit.retention]", "audit prune"),
        ("audit_table", "[audit] table"),
        ("removal_cap", "no effect any more"),
    ],
)
def test_a_setting_is_found_in_any_spelling(usersync, name, words):
    assert words in usersync("explain", name).out


def test_the_closest_setting_is_suggested_for_a_mistyped_one(usersync):
    done = usersync("explain", "users_tabel")
    assert done.code == 2
    assert "Did you mean 'users_table'?" in done.err


def test_an_unknown_code_is_refused(usersync):
    done = usersync("explain", "US999")
    assert done.code == 2
    assert "US301" in done.err


def test_settings_without_effect_are_not_suggested():
    offered = _complete(None, None, "")
    assert {"US001", "US301", "D004", "on_delete", "user_events"} <= set(offered)
    assert not {*RETIRED, *MOVED} & set(offered)
    assert len(offered) == len(set(offered))


def test_every_check_has_an_explanation():
    assert {check.code for check in CHECKS} <= set(sections())


def test_the_wheel_contains_the_pages(tmp_path):
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        for name in PAGES:
            packaged = archive.read(f"usersync/cli/pages/{name}")
            assert packaged == (ROOT / "docs" / name).read_bytes()
