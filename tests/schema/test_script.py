"""The offline script has the same result as apply, with any client, and when it is repeated."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from functools import partial

import asyncpg
import psycopg
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from psycopg.pq import TransactionStatus
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from test_obstacles import HANDWRITTEN

from audit_settings import with_audit_log
from hooks_skips import skip_without
from usersync.sql import render
from usersync.sql.script import NEXT_TRANSACTION, install_script


def test_the_script_creates_the_same_schema_as_apply(installer, catalog, settings):
    installer.apply(settings)
    online = catalog()
    installer.rollback(settings, drop_users_table=True, drop_audit_log=True)
    (script,) = install_script(settings)
    installer.connection.execute(script)
    offline = catalog()
    assert offline == online
    assert installer.plan(settings).changes == ()
    installer.connection.execute(script)
    assert catalog() == offline
    assert installer.plan(settings).changes == ()


#: Settings that contain parameter marks and other text with a meaning in SQLAlchemy's text().
SETTINGS = {
    "users_table": '"100% sch%s :a"."%(id)s users:b"',
    "key": "%s:key",
    "users_where": {"kind%": ":50% {percent} {colon}"},
    "columns": {
        "e%mail": "email",
        "%(name)s": {"from": "user_metadata.a%s:b", "default": "\\\\:x %s"},
        "rate%%:x": {"value": "5% :y"},
        "tag%": {"expression": "'%s :tag' || left(id::text, 4)", "owner": "auth"},
    },
}

#: Two settings of the session, and their values before and after the script.
SESSION = "select current_setting('search_path'), current_setting('lock_timeout')"
BEFORE = ('"$user", public, extensions', "7s")


def by_psycopg(dsn, script):
    """Run the script in an open transaction with its own lock_timeout, with and without parameters."""
    with psycopg.connect(dsn) as connection:
        connection.execute("set lock_timeout = '7s'")
        connection.execute(script, [])
        connection.execute(script)
        found = connection.execute(SESSION).fetchone()
        assert connection.info.transaction_status == TransactionStatus.INTRANS
        return found


def by_psycopg_in_autocommit(dsn, script):
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("set lock_timeout = '7s'")
        connection.execute(script)
        return connection.execute(SESSION).fetchone()


def by_asyncpg(dsn, script):
    async def run():
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute("set lock_timeout = '7s'")
            await connection.execute(script)
            # A prepared statement, as SQLAlchemy uses for each statement.
            await (await connection.prepare(script)).fetch()
            async with connection.transaction():
                await connection.execute(script)
                return tuple(await connection.fetchrow(SESSION))
        finally:
            await connection.close()

    return asyncio.run(run())


def by_sqlalchemy(dsn, script, *, as_text, driver="psycopg"):
    async def run():
        engine = create_async_engine(dsn.replace("postgresql:", f"postgresql+{driver}:"))
        async with engine.begin() as connection:
            await connection.execute(text("set lock_timeout = '7s'"))
            execute = connection.execute if as_text else connection.exec_driver_sql
            await execute(text(script) if as_text else script)
            found = tuple((await connection.execute(text(SESSION))).one())
            assert connection.sync_connection.in_transaction()
        await engine.dispose()
        return found

    return asyncio.run(run())


def by_alembic(dsn, script):
    engine = create_engine(dsn.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("set lock_timeout = '7s'"))
        Operations(MigrationContext.configure(connection)).execute(script)
        found = tuple(connection.execute(text(SESSION)).one())
    engine.dispose()
    return found


CLIENTS = {
    "psycopg": by_psycopg,
    "psycopg in autocommit": by_psycopg_in_autocommit,
    "asyncpg": by_asyncpg,
    "exec_driver_sql of psycopg": partial(by_sqlalchemy, as_text=False),
    "text() of psycopg": partial(by_sqlalchemy, as_text=True),
    "exec_driver_sql of asyncpg": partial(by_sqlalchemy, as_text=False, driver="asyncpg"),
    "text() of asyncpg": partial(by_sqlalchemy, as_text=True, driver="asyncpg"),
    "op.execute": by_alembic,
}


@pytest.mark.newest_server
@pytest.mark.parametrize(
    "clients", [["psycopg"], pytest.param([*CLIENTS], marks=pytest.mark.slow)], ids=["psycopg", "all"]
)
def test_each_client_runs_the_script_unchanged(installer, catalog, clients):
    """The names, defaults and expressions contain parameter marks."""
    settings = with_audit_log(SETTINGS)
    (script,) = install_script(settings)
    installer.apply(settings)
    expected = catalog()
    for name in clients:
        installer.rollback(settings, drop_users_table=True, drop_audit_log=True)
        assert CLIENTS[name](installer.dsn, script) == BEFORE, name
        assert catalog() == expected, name
        assert installer.plan(settings).changes == (), name


@pytest.mark.newest_server
def test_the_script_is_part_of_the_open_transaction(installer, catalog):
    before = catalog()
    with psycopg.connect(installer.dsn) as connection:
        connection.execute("create table public.mine ()")
        connection.execute(*install_script(with_audit_log()))
        connection.rollback()
    assert catalog() == before


@pytest.mark.slow
@pytest.mark.newest_server
def test_a_script_that_fails_changes_nothing_and_leaves_the_transaction_usable(installer, catalog):
    before = catalog()
    installer.connection.execute("set lock_timeout = '7s'")
    # The triggers are created last, and need a lock.
    with psycopg.connect(installer.dsn) as other, installer.connection.transaction():
        other.execute("update auth.users set phone = phone where false")
        with pytest.raises(psycopg.errors.LockNotAvailable), installer.connection.transaction():
            installer.connection.execute(*install_script(with_audit_log()))
        assert installer.connection.execute(SESSION).fetchone() == BEFORE
    assert catalog() == before


def run_psql(server, dsn, file, encoding="UTF8"):
    psql = server.bin_dir / "psql"
    if not psql.exists():
        skip_without("psql", f"none in {server.bin_dir}")
    command = [psql, "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--quiet", "--file", file, dsn]
    environment = os.environ | {"PGCLIENTENCODING": encoding}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, re.sub(r"psql:.*NOTICE:.*\n", "", done.stderr)


def test_psql_runs_the_script(installer, server, settings, tmp_path):
    file = tmp_path / "install.sql"
    file.write_text("\n".join(install_script(settings)), encoding="utf-8")
    for _ in range(2):
        assert run_psql(server, installer.dsn, file) == (0, "")
    assert installer.plan(settings).changes == ()


@pytest.mark.newest_server
def test_the_script_raises_if_the_client_encoding_differs(installer, server, catalog, tmp_path):
    before, file = catalog(), tmp_path / "install.sql"
    file.write_text(*install_script(with_audit_log()), encoding="ascii")
    assert run_psql(server, installer.dsn, file, "LATIN1") == (0, "")
    installer.rollback(with_audit_log(), drop_users_table=True, drop_audit_log=True)
    settings = with_audit_log({"columns": {"größe": "email"}})
    file.write_text(*install_script(settings), encoding="utf-8")
    code, output = run_psql(server, installer.dsn, file, "LATIN1")
    assert (code, catalog()) == (3, before)
    assert "the client has another encoding" in output
    assert "PGCLIENTENCODING=UTF8" in output


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
def test_the_script_raises_if_objects_conflict(installer, catalog, obstacle, says):
    installer.connection.execute(obstacle)
    before = catalog()
    with pytest.raises(psycopg.errors.RaiseException, match=re.escape(says)) as caught:
        installer.connection.execute(*install_script(with_audit_log()))
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
def test_the_script_raises_if_the_schema_is_newer_or_edited(installer, catalog, newer):
    installer.apply(with_audit_log())
    installer.connection.execute(newer)
    with pytest.raises(psycopg.errors.RaiseException, match="usersync"):
        installer.connection.execute(*install_script(with_audit_log()))


@pytest.mark.parametrize("values", [{}, SETTINGS])
def test_the_script_has_no_parameters_and_no_transaction(values):
    (script,) = install_script(with_audit_log(values))
    assert "%" not in script
    assert text(script).compile().params == {}
    assert str(text(script)) == script, "no escape that SQLAlchemy resolves"
    assert not re.search(r"^\\", script, re.MULTILINE), "no command of psql"
    assert not re.search(r"^(begin|start|commit|rollback|set)\b.*;$", script, re.MULTILINE | re.IGNORECASE)


@pytest.mark.slow
@pytest.mark.newest_server
def test_an_upgrade_with_several_transactions_has_one_text_for_each(installer, catalog, monkeypatch):
    """A migration that builds an index concurrently requires several transactions."""
    installer.apply(with_audit_log())
    expected = catalog()
    installer.rollback(with_audit_log(), drop_users_table=True, drop_audit_log=True)
    usual = render.read_sql

    def read_sql(path):
        found = usual(path)
        return (
            found.replace("create table", f"{NEXT_TRANSACTION}\ncreate table", 1) if "0003" in path else found
        )

    monkeypatch.setattr(render, "read_sql", read_sql)
    monkeypatch.setattr(render, "_render_bundle", render._render_bundle.__wrapped__)
    first, second = install_script(with_audit_log())
    assert ["Text 1 of 2" in first, "Text 2 of 2" in second] == [True, True]
    installer.connection.execute(first)
    noted = "select max(version) from usersync.schema_version"
    assert installer.connection.execute(noted).fetchone() == (2,), "the migration is not done yet"
    for part in (second, first, second):
        installer.connection.execute(part)
    assert catalog() == expected
