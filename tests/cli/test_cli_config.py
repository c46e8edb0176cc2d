"""``usersync config``: values, their sources, and their precedence."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postgrest_server import SECRET_KEY
from usersync.audit.options import SPOOL_VARIABLE
from usersync.cli.toml_lines import lines_of_keys

PASSWORD = "hunter2"  # noqa: S105 - is to be hidden
DSN = f"postgresql://postgres:{PASSWORD}@db.example.com:5432/postgres"
URL = "https://abcdefghijklmnopqrst.supabase.co"


@pytest.fixture
def shown(usersync, monkeypatch):
    """A function that calls the command and returns the JSON document.

    Checks that the output has no secret.
    """
    monkeypatch.delenv(SPOOL_VARIABLE)  # of this test run

    def call(*arguments, code=0):
        done = [usersync("config", *arguments, *form) for form in ((), ("--json",))]
        for each in done:
            assert each.code == code, each
            assert PASSWORD not in each.out + each.err
            assert SECRET_KEY not in each.out + each.err
        return json.loads(done[1].out)

    return call


def used(document):
    return {(each["name"], each["source"]) for each in document["variables"] if each["used"]}


def test_without_any_setting_config_says_so(shown):
    document = shown(code=1)
    assert document["target"] is None
    assert "no connection string" in document["problem"]
    assert used(document) == set()
    assert {each["source"] for each in document["settings"]} == {"default"}


def test_precedence_is_environment_then_env_local_then_env(shown, directory, monkeypatch):
    (directory / ".env").write_text(f"# the team's\n\nDATABASE_URL={DSN}\nSUPABASE_URL={URL}\n")
    assert used(shown()) == {("DATABASE_URL", ".env:3")}
    (directory / ".env.local").write_text(f'\nexport SUPABASE_DB_URL="{DSN}"\n')
    assert ("SUPABASE_DB_URL", ".env.local:2") in used(shown())
    assert ("DATABASE_URL", ".env:3") not in used(shown())
    monkeypatch.setenv("DATABASE_URL", DSN.replace("db.", "env."))
    document = shown()
    assert ("DATABASE_URL", "environment") in used(document)
    assert document["target"] == "env.example.com:5432/postgres"
    assert ("--dsn", "command line") in used(shown("--dsn", DSN))


def test_without_a_connection_string_the_data_api_is_used(shown, directory):
    (directory / ".env.local").write_text(f"SUPABASE_URL={URL}\nSUPABASE_SECRET_KEY={SECRET_KEY}\n")
    document = shown()
    assert document["target"] == "abcdefghijklmnopqrst.supabase.co (Data API)"
    values = {each["name"]: each["value"] for each in document["variables"]}
    assert values["SUPABASE_SECRET_KEY"] == "a secret key [hidden]"  # noqa: S105 - is hidden
    assert values["SUPABASE_URL"] == URL


@pytest.mark.parametrize("name", ["SUPABASE_JWT_SECRET", "USERSYNC_SECRET_KEY"])
def test_other_secrets_are_listed_beside_a_connection_string(shown, directory, name):
    (directory / ".env").write_text(f"DATABASE_URL={DSN}\n{name}={PASSWORD}\n")
    assert (name, ".env:2") in used(shown())


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("DATABASE_URL=postgresql://u:hunter2@@h/d", "@ or a /"),
        (f"DATABASE_URL={URL}", "HTTP URL"),
        (f"SUPABASE_URL={URL}\nSUPABASE_SECRET_KEY=sb_publishable_hunter2", "publishable"),
        (f"SUPABASE_URL=http://db.example.com\nSUPABASE_SECRET_KEY={SECRET_KEY}", "unencrypted"),
        (f"SUPABASE_AUTH_URL=http://203.0.113.7:9999\nSUPABASE_SECRET_KEY={SECRET_KEY}", "unencrypted"),
        (f"SUPABASE_URL=https://u:hunter2@h\nSUPABASE_SECRET_KEY={SECRET_KEY}", "a password"),
    ],
)
def test_an_invalid_value_is_listed_as_a_problem(shown, directory, line, problem):
    (directory / ".env").write_text(line)
    document = shown(code=1)
    assert any(problem in (each["problem"] or "") for each in document["variables"])


@pytest.mark.parametrize("host", ["kong", "localhost:54321", "10.0.0.5", "db.internal"])
def test_plain_http_is_accepted_for_allowed_hosts(shown, directory, host):
    (directory / ".env").write_text(f"SUPABASE_URL=http://{host}\nSUPABASE_SECRET_KEY={SECRET_KEY}")
    values = {each["name"]: each["value"] for each in shown()["variables"]}
    assert values["SUPABASE_URL"] == f"http://{host}"


def test_an_unreadable_file_is_named(usersync, directory):
    (directory / ".env").write_bytes(b"A=\xff\xfe")
    assert "cannot read .env" in usersync("config").err


SETTINGS = """
# a comment
on_delete = "soft"
[columns]
# another
email = [
  "email",
]
deleted_at = "deleted_at"

[columns.plan]
from = "app_metadata.plan"
owner = "app"

[audit.columns]
id = "event_id"
"""


@pytest.mark.parametrize("name", ["usersync.toml", "pyproject.toml", "other.toml"])
def test_each_setting_is_listed_with_its_line_in_the_file(shown, directory, name):
    text = SETTINGS
    if name == "pyproject.toml":
        text = text.replace("# a comment", "[tool.usersync]").replace("[columns", "[tool.usersync.columns")
        text = text.replace("[audit", "[tool.usersync.audit")
    (directory / name).write_text(text)
    document = shown(*(("--config", name) if name == "other.toml" else ()), "--dsn", DSN)
    lines = {each["name"]: each["source"] for each in document["settings"]}
    assert lines["on_delete"] == f"{name}:3"
    assert lines["columns.email"] == f"{name}:6"
    assert lines["columns.deleted_at"] == f"{name}:9"
    assert lines["columns.plan"] == f"{name}:11"
    assert lines["audit.columns.id"] == f"{name}:16"
    assert lines["users_table"] == "default"
    assert document["settings_file"] == name


KEYS = st.from_regex(r"\A[a-z]{1,3}\Z")
VALUES = st.sampled_from(
    ["1", '"x"', "'''a\n[b]\nc = 1'''", '[\n  1,\n  "]",\n]', "{ k = 1 }", '"""\nq = 2\n"""', "true # no"]
)


@given(st.lists(st.tuples(KEYS, VALUES), max_size=6, unique_by=lambda each: each[0]), st.integers(0, 3))
def test_the_line_of_a_key_is_found_in_any_toml(entries, blanks):
    """Text inside a string value that looks like a key or a table is not one."""
    gap = "\n# c = 1\n" * blanks
    text = "".join(f"{gap}{key} = {value}\n" for key, value in entries)
    tomllib.loads(text)
    lines = text.splitlines()
    found = lines_of_keys(text)
    assert {path[0] for path in found} == {key for key, _ in entries}
    for key, _ in entries:
        assert lines[found[key,] - 1].startswith(f"{key} = ")
