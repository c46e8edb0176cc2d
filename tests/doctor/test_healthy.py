from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from usersync.doctor import CHECKS, choose, examine
from usersync.errors import ConnectionFailedError, UsersyncError
from usersync.testing import broken_users_table
from usersync.transports.run import run
from usersync.transports.steps import BEGIN, query


def test_a_healthy_database_has_nothing_to_say(clinic):
    clinic.project.auth.sign_up_email("ada@example.com")
    assert clinic.sick() == {}


def test_nothing_is_written(clinic, root):
    """Not a row of any table differs afterwards, the catalog's included, whatever the checks find."""
    clinic.project.owner.execute(SICK.format(users=clinic.project.users))
    clinic.project.auth.sign_up_email("ada@example.com")
    before = _fingerprint(root)
    assert len(clinic.sick()) > 4
    assert _fingerprint(root) == before


@pytest.mark.newest_server
def test_the_server_sees_to_it(clinic):
    """Every transaction of the doctor's is a read-only one."""
    plan = examine(clinic.settings)
    said = []

    def listening():
        rows = None
        while True:
            try:
                step = plan.send(rows)
            except StopIteration as end:
                return end.value
            said.append(step.sql)
            rows = yield step

    run(listening(), clinic.project.owner)
    begun = [after for sql, after in pairwise(said) if sql == BEGIN.sql]
    assert set(begun) == {"set transaction read only"}
    assert said.count(BEGIN.sql) == said.count("commit") == len(CHECKS) + 2


@pytest.mark.newest_server
def test_a_check_that_crashes_hides_nothing_of_the_others(clinic):
    def refused(_patient):
        return (yield from query("select 1 / 0"))

    def mistaken(_patient):
        yield from query("select")
        raise KeyError("a mistake in a check")

    def written(_patient):
        return (yield from query("delete from usersync.settings"))

    looks = [refused, mistaken, written]
    checks = [replace(check, look=look) for check, look in zip(CHECKS, looks, strict=False)]
    found = run(examine(clinic.settings, (*checks, *choose(["D018"]))), clinic.project.owner)
    assert [check.status for check in found] == ["problem"] * 3 + ["ok"]
    assert "SQLSTATE 22012" in found[0].detail
    assert "KeyError" in found[1].detail
    assert "SQLSTATE 25006" in found[2].detail


@pytest.mark.newest_server
def test_a_locked_table_holds_nothing_up(clinic):
    table, column = clinic.settings.users_table, clinic.project.columns["email"]
    with broken_users_table(clinic.project.database.dsn(), "locked", table=table, column=column):
        sick = clinic.sick()
    assert set(sick) == {"D017"}
    assert "SQLSTATE 55P03" in sick["D017"]


@pytest.mark.newest_server
def test_a_lost_connection_ends_it(clinic, root):
    def killed(_patient):
        return (yield from query("select pg_terminate_backend(pg_backend_pid())"))

    checks = (replace(CHECKS[0], look=killed), *CHECKS[1:])
    with (
        clinic.project.database.connect("postgres") as connection,
        pytest.raises(ConnectionFailedError),
    ):
        run(examine(clinic.settings, checks), connection)


@pytest.mark.newest_server
def test_an_open_transaction_of_the_callers_is_refused(clinic):
    with clinic.project.database.connect("postgres", autocommit=False) as connection:
        connection.execute("select 1")
        with pytest.raises(UsersyncError, match="needs a transaction of its own"):
            run(examine(clinic.settings), connection)
        connection.execute("select 1")


SICK = """
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
    """Who wrote each row where, for every table of this database."""
    names = [row[0] for row in connection.execute(_TABLES).fetchall()]
    rows = "select count(*), sum(hashtextextended(concat(ctid, ' ', xmin, ' ', xmax), 0)) from {}"
    return {name: connection.execute(rows.format(name)).fetchone() for name in names}
