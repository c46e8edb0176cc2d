"""The offline script: the same result as apply, with any client, also if repeated."""

from __future__ import annotations

import os
import re
import subprocess

import psycopg
import pytest
from test_obstacles import HANDWRITTEN

from fix_lacking import skip_without
from logged import logged
from usersync.sql.script import install_script


def test_the_script_creates_the_same_schema_as_apply(installer, catalog, settings):
    installer.apply(settings)
    online = catalog()
    installer.rollback(settings, drop_users_table=True, drop_audit_log=True)
    installer.connection.execute(install_script(settings, transaction=True))
    offline = catalog()
    assert offline == online
    assert installer.plan(settings).changes == ()
    installer.connection.execute(install_script(settings, transaction=True))
    assert catalog() == offline
    assert installer.plan(settings).changes == ()


def statements(script: str) -> list[str]:
    """The statements that psql would send: split at semicolons outside quotes, dollar quotes and comments."""
    found, start = [], 0
    tokens = r"\$usersync\$.*?\$usersync\$|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|;"
    for token in re.finditer(tokens, script, re.DOTALL):
        if token[0] == ";":
            found.append(script[start : token.end()])
            start = token.end()
    return found


@pytest.mark.newest_server
def test_the_script_can_be_run_statement_by_statement(installer, catalog, settings):
    script = install_script(settings, transaction=True)
    parts = statements(script)
    assert len(parts) > 50
    for part in parts:
        installer.connection.execute(part)
    assert installer.plan(settings).changes == ()


@pytest.mark.newest_server
def test_the_script_can_run_in_an_open_transaction(installer, settings):
    with installer.connection.transaction():
        installer.connection.execute(install_script(settings, transaction=False))
    assert installer.plan(settings).changes == ()


@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1"])
def test_psql_runs_the_script(installer, server, settings, tmp_path, encoding):
    psql = server.bin_dir / "psql"
    if not psql.exists():
        skip_without("psql", f"none in {server.bin_dir}")
    file = tmp_path / "install.sql"
    file.write_text(install_script(settings, transaction=True), encoding="utf-8")
    for _ in range(2):
        command = [psql, "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--quiet", "--file", file, installer.dsn]
        environment = os.environ | {"PGCLIENTENCODING": encoding}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert (done.returncode, re.sub(r"psql:.*NOTICE:.*\n", "", done.stderr)) == (0, "")
    assert installer.plan(settings).changes == ()


@pytest.mark.newest_server
@pytest.mark.parametrize(
    ("obstacle", "says"),
    [
        (HANDWRITTEN, "is not usersync's"),
        ("create schema usersync", "the schema usersync is not usersync's"),
        (
            "create function public.user_sync_status() returns int language sql as 'select 1'",
            "user_sync_status",
        ),
    ],
)
def test_the_script_stops_at_conflicting_objects(installer, catalog, obstacle, says):
    installer.connection.execute(obstacle)
    before = catalog()
    with pytest.raises(psycopg.errors.RaiseException, match=re.escape(says)) as caught:
        installer.connection.execute(install_script(logged(), transaction=True))
    installer.connection.execute("rollback")
    assert "usersync plan" in caught.value.diag.message_hint
    assert catalog() == before


@pytest.mark.newest_server
@pytest.mark.parametrize(
    "newer",
    [
        """update usersync.settings set settings = settings || '{"library_version": "99.0"}'""",
        """update usersync.settings set settings = settings || '{"library_version": "99.0.0rc1"}'""",
        "insert into usersync.schema_version (version, name, checksum) values (9999, 'later', 'x')",
        "update usersync.schema_version set checksum = 'edited'",
    ],
)
def test_the_script_stops_at_a_newer_or_an_edited_schema(installer, catalog, newer):
    installer.apply(logged())
    installer.connection.execute(newer)
    with pytest.raises(psycopg.errors.RaiseException, match="usersync"):
        installer.connection.execute(install_script(logged(), transaction=True))
    installer.connection.execute("rollback")


def test_the_script_says_its_encoding_and_needs_no_psql():
    script = install_script(logged(), transaction=True)
    assert script.partition("set local client_encoding = 'UTF8';")[0].isascii()
    assert not re.search(r"^\\", script, re.MULTILINE), "no command of psql's"
    assert script.count("begin;\n") == 1
    assert "begin;\n" not in install_script(logged(), transaction=False)
