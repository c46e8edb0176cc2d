"""All checks together: they write nothing, and one failed check does not hide the others."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from usersync.doctor import CHECKS, choose, examine
from usersync.errors import ConnectionFailedError, UsersyncError
from usersync.schema import installation
from usersync.sql import render
from usersync.testing import broken_users_table
from usersync.transports.run import run
from usersync.transports.steps import BEGIN, query


def test_every_check_is_ok_on_a_healthy_database(checked):
    checked.project.auth.sign_up_email("ada@example.com")
    assert checked.failing() == {}


def test_doctor_writes_nothing(checked, root):
    """No row of any table changes, including the catalog, even if checks fail."""
    checked.project.owner.execute(DAMAGE.format(users=checked.project.users))
    checked.project.auth.sign_up_email("ada@example.com")
    before = _fingerprint(root)
    assert len(checked.failing()) > 4
    assert _fingerprint(root) == before


@pytest.mark.newest_server
def test_every_transaction_is_read_only(checked):
    plan = examine(checked.settings)
    statements = []

    def listening():
        rows = None
        while True:
            try:
                step = plan.send(rows)
            except StopIteration as end:
                return end.value
            statements.append(step.sql)
            rows = yield step

    run(listening(), checked.project.owner)
    begun = [after for sql, after in pairwise(statements) if sql == BEGIN.sql]
    assert set(begun) == {"set transaction read only"}
    assert statements.count(BEGIN.sql) == statements.count("commit") == len(CHECKS) + 2


@pytest.mark.newest_server
def test_a_check_that_crashes_does_not_hide_the_others(checked):
    def divides_by_zero(_context):
        return (yield from query("select 1 / 0"))

    def raises_key_error(_context):
        yield from query("select")
        raise KeyError("a mistake in a check")

    def writes(_context):
        return (yield from query("delete from usersync.settings"))

    looks = [divides_by_zero, raises_key_error, writes]
    checks = [replace(check, look=look) for check, look in zip(CHECKS, looks, strict=False)]
    found = run(examine(checked.settings, (*checks, *choose(["D018"]))), checked.project.owner)
    assert [check.status for check in found] == ["problem"] * 3 + ["ok"]
    assert "SQLSTATE 22012" in found[0].detail
    assert "KeyError" in found[1].detail
    assert "SQLSTATE 25006" in found[2].detail


@pytest.mark.newest_server
def test_a_locked_table_fails_only_the_checks_that_read_it(checked, monkeypatch):
    monkeypatch.setattr(render, "COMMAND_LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr(render, "_render_bundle", render._render_bundle.__wrapped__)
    run(installation.apply(checked.settings), checked.project.owner)
    table, column = checked.settings.users_table, checked.project.columns["email"]
    with broken_users_table(checked.project.database.dsn(), "locked", table=table, column=column):
        failing = checked.failing()
    assert set(failing) == {"D017"}
    assert "SQLSTATE 55P03" in failing["D017"]


@pytest.mark.newest_server
def test_a_lost_connection_ends_the_run(checked, root):
    def killed(_context):
        return (yield from query("select pg_terminate_backend(pg_backend_pid())"))

    checks = (replace(CHECKS[0], look=killed), *CHECKS[1:])
    with (
        checked.project.database.connect("postgres") as connection,
        pytest.raises(ConnectionFailedError),
    ):
        run(examine(checked.settings, checks), connection)


@pytest.mark.newest_server
def test_doctor_raises_in_an_open_transaction(checked):
    with checked.project.database.connect("postgres", autocommit=False) as connection:
        connection.execute("select 1")
        with pytest.raises(UsersyncError, match="requires a transaction of its own"):
            run(examine(checked.settings), connection)
        connection.execute("select 1")


DAMAGE = """
    alter table {users} add column demanded text not null;
    alter function usersync.handle_new_user() reset search_path;
    grant usage on schema usersync to anon;
    update usersync.settings set settings = settings || '{{"lock_timeout_ms": 700}}';
"""

_TABLES = """
    select pg_class.oid::regclass::text from pg_class
    where relkind in ('r', 'm', 't') and not relisshared and relpersistence <> 't'
"""


def _fingerprint(connection):
    """A hash of the ctid, xmin and xmax of all rows, for each table of this database."""
    names = [row[0] for row in connection.execute(_TABLES).fetchall()]
    rows = "select count(*), sum(hashtextextended(concat(ctid, ' ', xmin, ' ', xmax), 0)) from {}"
    return {name: connection.execute(rows.format(name)).fetchone() for name in names}
