"""D021 to D023: what the server and whatever is between bring along."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from psycopg import sql

from usersync.core import clocks
from usersync.doctor import choose, examine
from usersync.doctor.checks.d022_timeouts import milliseconds
from usersync.transports.run import run

SCOPES = ["alter database {database}", "alter role supabase_auth_admin in database {database}"]


@pytest.mark.parametrize("scope", SCOPES)
def test_d021_triggers_that_do_not_fire(theatre, scope):
    _set(theatre, scope, "session_replication_role = replica")
    check = theatre.cures("D021")
    assert "supabase_auth_admin start with session_replication_role = replica" in check.detail


@pytest.mark.parametrize("scope", SCOPES)
def test_d022_a_time_out_that_no_sign_up_can_keep(theatre, scope):
    _set(theatre, scope, "statement_timeout = '200ms'")
    check = theatre.check("D022")
    assert "cancelled after 200ms" in check.detail
    theatre.cures("D022")


@pytest.mark.newest_server
def test_d022_what_is_nearer_wins(theatre):
    """The role's own setting in this database before the database's."""
    _set(theatre, SCOPES[1], "statement_timeout = '1min'")
    _set(theatre, SCOPES[0], "statement_timeout = '5ms'")
    check = theatre.check("D022")
    assert "supabase_auth_admin are" not in check.detail
    _set(theatre, SCOPES[1], "statement_timeout = 0")
    assert "supabase_auth_admin are" not in theatre.check("D022").detail


@pytest.mark.newest_server
def test_d022_a_time_out_of_our_own_role_is_a_warning(theatre):
    _set(theatre, "alter role postgres in database {database}", "statement_timeout = '200ms'")
    check = theatre.cures("D022", "warning")
    assert "statements of postgres are cancelled after 200ms" in check.detail


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("120000ms", 120_000), ("2min", 120_000), ("8s", 8_000), ("250", 250), ("?", 0)],
)
def test_d022_reads_what_postgresql_writes(text, value):
    assert milliseconds(text) == value


@pytest.mark.newest_server
def test_d023_says_whether_there_is_a_pooler(clinic):
    owner = clinic.project.owner

    def detail(pid):
        return run(examine(clinic.settings, choose(["D023"]), client_pid=pid), owner)[0].detail

    assert "direct" in detail(owner.info.backend_pid)
    assert "there is one, which is fine" in detail(owner.info.backend_pid + 1)


def _set(theatre, scope, setting):
    name = sql.Identifier(theatre.project.database.name)
    theatre.surgeon.execute(sql.SQL(scope + " set " + setting).format(database=name))


@pytest.mark.newest_server
@pytest.mark.parametrize(("seconds", "said"), [(-120, "120 s behind"), (120, "120 s ahead of"), (5, None)])
def test_d031_a_clock_that_is_wrong(clinic, monkeypatch, seconds, said):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=seconds)

    monkeypatch.setattr(clocks, "datetime", Clock)
    check = clinic.check("D031")
    assert check.status == ("warning" if said else "ok")
    assert said is None or said in check.detail
