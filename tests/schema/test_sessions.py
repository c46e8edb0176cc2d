"""usersync does not depend on a session's settings for times, names and numbers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from audit_settings import with_audit_log
from usersync import UserSync, doctor
from usersync.audit import reading, upkeep
from usersync.audit.models import EventFilter
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.schema import installation
from usersync.testing import GoTrue
from usersync.testing.install import install
from usersync.transports.psycopg import connect
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

OTHER_SESSION = {
    "DateStyle": "German, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Asia/Kathmandu",
    "extra_float_digits": "0",
    "bytea_output": "escape",
    "lc_monetary": "C.utf8",
    "quote_all_identifiers": "on",
}
DEFAULT_SESSION = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
}
MEASURES = """
    create table public.measures (
        id int primary key, f float8, i interval, b bytea, d date, r tsrange, t timestamptz
    )
"""
ROW = """
    insert into public.measures values (
        1, 0.1::float8 + 0.2, '1 day 02:03', '\\x00ff', '2026-02-03', '[2026-02-03, 2026-02-04)',
        '2026-02-03T04:05:06Z'
    )
"""


@pytest.fixture(params=["German, DMY", "SQL, DMY", "Postgres, MDY"])
def other_defaults(request, database):
    """A database in which all sessions of ``postgres`` have unusual settings."""
    with database.connect("supabase_admin") as superuser:
        for name, value in {**OTHER_SESSION, "DateStyle": request.param}.items():
            superuser.execute(f"alter role postgres in database {database.name} set {name} = '{value}'")
        yield database
        superuser.execute(f"alter role postgres in database {database.name} reset all")


@pytest.mark.slow
def test_install_read_and_prune_work_with_any_session_settings(other_defaults):
    install(other_defaults, with_audit_log())
    with GoTrue(other_defaults.dsn("supabase_auth_admin")) as auth:
        user = auth.sign_up_email("ada@example.com")
    with connect(other_defaults.dsn()) as connection:
        assert not run(installation.plan(with_audit_log()), connection).changes
        cursor = run(reading.tail(), connection).cursor
        connection.execute(
            "select public.record_audit_events(jsonb_build_array(jsonb_build_object('action', 'a.b', "
            "'entity_type', 'product', 'entity_id', '1', 'user_id', %s::text)))",
            [user],
        )
        (event,) = run(reading.search(EventFilter()), connection).events
        assert abs((datetime.now(UTC) - event.occurred_at).total_seconds()) < 600
        assert len(run(reading.history("product", "1"), connection).events) == 1
        assert run(reading.tail(cursor), connection).events == (event,)
        assert run(reading.each_page(EventFilter(), lambda _: None), connection) == 1
        run(upkeep.prune(datetime(2020, 1, 1, tzinfo=UTC)), connection)
        checked = run(doctor.examine(with_audit_log()), connection)
        assert {each.code: each.summary for each in checked if "DateStyle" in str(each)} == {}
    with UserSync(other_defaults.dsn()) as client:
        assert client.status().in_step
        assert client.failures() == []


def test_a_tracked_change_does_not_depend_on_the_session_settings(database):
    install(database, with_audit_log())
    with database.connect() as owner:
        owner.execute(MEASURES)
        run(tracking.track(with_audit_log(), "measures", TrackOptions(), Redactor().is_secret), owner)
        for session in (OTHER_SESSION, DEFAULT_SESSION):
            for name, value in session.items():
                owner.execute(f"set {name} = '{value}'")
            owner.execute(ROW)
            owner.execute("delete from public.measures")
        changes = "select changes from public.audit_logs where action = 'measures.inserted'"
        first, second = owner.execute(changes).fetchall()
    assert first == second
