"""Events belong to a tenant. Signed-in users can read events of their tenant, if the settings allow it."""

from __future__ import annotations

import json
from dataclasses import replace

import psycopg
import pytest
from sql_log import event, found, send

from audit_settings import with_audit_log
from fixtures_project import clone_installed
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.config.settings import parse_settings
from usersync.doctor import choose, examine
from usersync.errors import SettingsError
from usersync.schema import installation
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

OPEN = with_audit_log({"audit": {"tenant_claim": "app_metadata.tenant_id", "tenants_read": True}})
CLOSED = with_audit_log({"audit": {"tenant_claim": "app_metadata.tenant_id"}})
LISTED = "select action from public.audit_events_of_tenant()"
READ = "select action from public.audit_logs order by action"


#: Statements for internal columns, for changes of events, and for partitions.
REFUSED = (
    "select metadata from public.audit_logs",
    "delete from public.audit_logs",
    "update public.audit_logs set action = 'x'",
    "select * from usersync.audit_logs_default",
    "select usersync.tenant_of_session()",
)


@pytest.fixture(params=["old", "new"])
def regime(request):
    return request.param


@pytest.fixture
def database(cluster, regime):
    database = clone_installed(cluster, OPEN, regime=regime)
    yield database
    cluster.drop(database)


@pytest.fixture
def installed(postgres):
    send(
        postgres,
        *(event(action=f"{tenant}.{n}", tenant_id=tenant) for tenant in ("acme", "bolt") for n in (1, 2)),
        event(action="nobody's"),
    )
    return postgres


def claims_of(tenant, **more):
    return {"sub": "ada", "role": "authenticated", "app_metadata": {"tenant_id": tenant}} | more


@pytest.mark.slow
def test_signed_in_users_read_the_events_of_their_tenant(database, installed, signed_in):
    for claims, expected in (
        (claims_of("acme"), ["acme.1", "acme.2"]),
        (claims_of("bolt"), ["bolt.1", "bolt.2"]),
        (claims_of("nobody"), []),
        (claims_of(None), []),
        ({"sub": "ada", "tenant_id": "acme", "user_metadata": {"tenant_id": "acme"}}, []),
        (claims_of("acme", is_anonymous=True), []),
    ):
        with signed_in(claims) as connection:
            assert found(connection, LISTED) == expected, claims
            assert found(connection, READ) == expected, claims
    with database.connect("authenticated") as connection:
        assert found(connection, LISTED) == []
        for refused in REFUSED:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused)
    with database.connect("anon") as connection:
        for refused in (LISTED, READ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused)


def test_a_page_of_a_tenants_events_begins_after_the_previous_page(installed, signed_in):
    page = "select id, occurred_at, action from public.audit_events_of_tenant(%s, %s, 1)"
    with signed_in(claims_of("acme")) as connection:
        (first,) = connection.execute(page, [None, None]).fetchall()
        (second,) = connection.execute(page, [first[1], first[0]]).fetchall()
        assert connection.execute(page, [second[1], second[0]]).fetchall() == []
        assert {first[2], second[2]} == {"acme.1", "acme.2"}


@pytest.mark.slow
def test_reading_a_tenants_events_is_off_by_default_and_can_be_turned_off(installed, signed_in):
    assert run(installation.plan(OPEN), installed).changes == ()
    reports = run(examine(OPEN, choose(["D009", "D024"])), installed)
    assert [check.status for check in reports] == ["ok", "ok"]
    subjects = [f"{each.kind} {each.subject}" for each in run(installation.apply(CLOSED), installed).changes]
    assert "drop function public.audit_events_of_tenant(timestamp with time zone, uuid, integer)" in subjects
    assert "alter table public.audit_logs" in subjects
    assert run(installation.plan(CLOSED), installed).changes == ()
    with signed_in(claims_of("acme")) as connection:
        for refused, error in ((LISTED, "UndefinedFunction"), (READ, "InsufficientPrivilege")):
            with pytest.raises(getattr(psycopg.errors, error)):
                connection.execute(refused)
    other = with_audit_log({"audit": {"tenant_claim": "org", "tenants_read": True}})
    run(installation.apply(OPEN), installed)
    run(installation.apply(other), installed)
    assert run(installation.plan(other), installed).changes == ()
    with signed_in({"org": "bolt"}) as connection:
        assert found(connection, READ) == ["bolt.1", "bolt.2"]


def test_an_event_gets_the_tenant_and_the_real_actor_of_its_session(installed):
    installed.execute("create table public.things (id int primary key)")
    run(tracking.track(OPEN, "public.things", TrackOptions(), Redactor().is_secret), installed)
    acting = claims_of("acme", act={"sub": "support"})

    def last(columns="tenant_id, actor_id, actor_type, on_behalf_of"):
        return installed.execute(
            f"select {columns} from public.audit_logs order by seq desc limit 1"
        ).fetchone()

    def within(statement, **settings):
        with installed.transaction():
            for name, value in settings.items():
                installed.execute("select set_config(%s, %s, true)", [name.replace("__", "."), value])
            installed.execute(statement)

    within("insert into things values (1)", request__jwt__claims=json.dumps(acting))
    assert last() == ("acme", "support", "user", "ada")
    within("insert into things values (2)", request__jwt__claims=json.dumps(claims_of("acme")))
    assert last() == ("acme", "ada", "user", None)
    told = {"usersync__tenant_id": "bolt", "usersync__actor_id": "bob", "usersync__on_behalf_of": "eve"}
    within("insert into things values (3)", request__jwt__claims=json.dumps(acting), **told)
    assert last() == ("bolt", "bob", "user", "eve")
    within("insert into things values (4)", request__jwt__claims="not json")
    assert last() == (None, "postgres", "system", None)
    record = 'select public.record_audit_events(\'[{"action": "a"}]\')'
    within(record, request__jwt__claims=json.dumps(acting))
    assert last("tenant_id") == ("acme",)
    within(record, usersync__tenant_id="bolt")
    assert last("tenant_id") == ("bolt",)
    within(record.replace('"a"', '"a", "tenant_id": "own"'), usersync__tenant_id="bolt")
    assert last("tenant_id") == ("own",)


INVALID_SETTINGS = {
    "users write it": ({"tenant_claim": "user_metadata.tenant"}, "could choose their tenant"),
    "no path": ({"tenant_claim": "a..b"}, "expected the path of a claim"),
    "no claim": ({"tenants_read": True}, "tenant_claim is missing"),
    "no boolean": ({"tenants_read": "yes"}, "expected true or false"),
    "of the application": ({"tenant_claim": "t", "tenants_read": True, "columns": {"id": "i"}}, "own table"),
}


@pytest.mark.parametrize("case", INVALID_SETTINGS)
def test_invalid_tenant_settings_are_refused(case):
    given, message = INVALID_SETTINGS[case]
    with pytest.raises(SettingsError, match=message):
        parse_settings({"audit": given})
    assert replace(OPEN).describe() == parse_settings(OPEN.describe()).describe()
