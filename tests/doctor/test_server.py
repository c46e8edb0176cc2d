"""D021 to D023 and D031: settings of the server, the pooler, the clock."""

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
def test_d021_reports_that_triggers_do_not_fire(checked_as_superuser, scope):
    _set(checked_as_superuser, scope, "session_replication_role = replica")
    check = checked_as_superuser.is_fixed_by_pasting("D021")
    assert "supabase_auth_admin start with session_replication_role = replica" in check.detail


@pytest.mark.parametrize("scope", SCOPES)
def test_d022_reports_a_statement_timeout_too_short_for_a_sign_up(checked_as_superuser, scope):
    _set(checked_as_superuser, scope, "statement_timeout = '200ms'")
    check = checked_as_superuser.check("D022")
    assert "cancelled after 200ms" in check.detail
    checked_as_superuser.is_fixed_by_pasting("D022")


@pytest.mark.newest_server
def test_d022_the_more_specific_setting_wins(checked_as_superuser):
    """The setting of the role in this database overrides the database's."""
    _set(checked_as_superuser, SCOPES[1], "statement_timeout = '1min'")
    _set(checked_as_superuser, SCOPES[0], "statement_timeout = '5ms'")
    check = checked_as_superuser.check("D022")
    assert "supabase_auth_admin are" not in check.detail
    _set(checked_as_superuser, SCOPES[1], "statement_timeout = 0")
    assert "supabase_auth_admin are" not in checked_as_superuser.check("D022").detail


@pytest.mark.newest_server
def test_d022_warns_about_a_short_timeout_of_usersyncs_role(checked_as_superuser):
    _set(checked_as_superuser, "alter role postgres in database {database}", "statement_timeout = '200ms'")
    check = checked_as_superuser.is_fixed_by_pasting("D022", "warning")
    assert "statements of postgres are cancelled after 200ms" in check.detail


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("120000ms", 120_000), ("2min", 120_000), ("8s", 8_000), ("250", 250), ("?", 0)],
)
def test_d022_reads_each_notation_of_a_timeout(text, value):
    assert milliseconds(text) == value


@pytest.mark.newest_server
def test_d023_reports_a_pooler(checked):
    owner = checked.project.owner

    def detail(pid):
        return run(examine(checked.settings, choose(["D023"]), client_pid=pid), owner)[0].detail

    assert "direct" in detail(owner.info.backend_pid)
    assert "yes, and usersync supports it" in detail(owner.info.backend_pid + 1)


def _set(checked_as_superuser, scope, setting):
    name = sql.Identifier(checked_as_superuser.project.database.name)
    checked_as_superuser.fix_connection.execute(sql.SQL(scope + " set " + setting).format(database=name))


@pytest.mark.newest_server
@pytest.mark.parametrize(("seconds", "text"), [(-120, "120 s behind"), (120, "120 s ahead of"), (5, None)])
def test_d031_warns_about_a_wrong_clock(checked, monkeypatch, seconds, text):
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=seconds)

    monkeypatch.setattr(clocks, "datetime", Clock)
    check = checked.check("D031")
    assert check.status == ("warning" if text else "ok")
    assert text is None or text in check.detail
