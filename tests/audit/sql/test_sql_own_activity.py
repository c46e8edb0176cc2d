"""Signed-in users can read their own events only, if the settings allow it."""

from __future__ import annotations

import json
from uuid import uuid4

import httpx2
import psycopg
import pytest
from sql_log import event, found, send

import postgrest_server
from audit_settings import with_audit_log
from fixtures_project import clone_installed
from postgrest_server import SERVICE_KEY, mint
from usersync.config.settings import parse_settings
from usersync.doctor import choose, examine
from usersync.errors import SettingsError
from usersync.schema import installation
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

OPEN = with_audit_log({"audit": {"users_read": True}})
BOTH = with_audit_log(
    {"audit": {"users_read": True, "tenants_read": True, "tenant_claim": "app_metadata.tenant_id"}}
)
LISTED = "select action from public.audit_events_of_user()"
READ = "select action from public.audit_logs"

REFUSED = (
    "select metadata from public.audit_logs",
    "select user_id, request_id from public.audit_logs",
    "select * from public.audit_logs",
    "delete from public.audit_logs",
    "update public.audit_logs set action = 'x'",
    "insert into public.audit_logs (id, action) values (gen_random_uuid(), 'forged')",
    "select * from usersync.audit_logs_default",
    """select public.record_audit_events('[{"action": "forged"}]')""",
    "select public.usersync('search_audit_log', '{}')",
    "select usersync.audit_query('{}', null, false)",
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
def users(auth, postgres):
    """Two users with two events each, and events of other users."""
    ada, bob = auth.sign_up_email("ada@example.com"), auth.sign_up_email("bob@example.com")
    send(
        postgres,
        *(
            event(action=f"{name}.{n}", actor_id=str(user))
            for name, user in (("ada", ada), ("bob", bob))
            for n in (1, 2)
        ),
        event(
            action="support",
            actor_id=str(uuid4()),
            on_behalf_of=str(ada),
            entity_type="user",
            entity_id=str(ada),
        ),
        event(action="nobody's"),
    )
    return ada, bob


def claims_of(user, **more):
    return {"sub": str(user), "role": "authenticated", "aud": "authenticated"} | more


def test_users_read_their_own_events_and_nothing_else(users, signed_in):
    ada, bob = users
    for claims, expected in (
        (claims_of(ada), ["ada.1", "ada.2"]),
        (claims_of(bob), ["bob.1", "bob.2"]),
        (claims_of(uuid4()), []),
        (claims_of(""), []),
        (claims_of("%"), []),
        (claims_of(ada, is_anonymous=True), []),
        ({"user_metadata": {"sub": str(ada)}, "app_metadata": {"sub": str(ada)}}, []),
        ({"sub": {"$ne": ""}}, []),
        ({}, []),
    ):
        session = signed_in(claims)
        assert found(session, LISTED) == expected, claims
        assert found(session, READ) == expected, claims
    for refused in REFUSED:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            signed_in(claims_of(ada)).execute(refused)
    for refused in (LISTED, READ, *REFUSED):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            signed_in(claims_of(ada, role="anon"), "anon").execute(refused)


def test_reading_own_events_uses_the_index_of_actors_and_has_pages(users, signed_in):
    session = signed_in(claims_of(users[0]))
    page = "select id, occurred_at, action from public.audit_events_of_user(%s, %s, 1)"
    (first,) = session.execute(page, [None, None]).fetchall()
    (second,) = session.execute(page, [first[1], first[0]]).fetchall()
    assert session.execute(page, [second[1], second[0]]).fetchall() == []
    assert {first[2], second[2]} == {"ada.1", "ada.2"}
    session.execute("set enable_seqscan = off")
    plan = session.execute(f"explain {READ} order by occurred_at desc limit 5").fetchall()
    assert "actor_id" in str(plan)
    assert "Index Cond: (actor_id" in str(plan)


def test_over_the_data_api_the_token_selects_the_user(database, users, serve, monkeypatch):
    """Tries a forged token, another user's id in the request, and no token."""
    ada, bob = users
    gateway = serve(database)

    def read(token, path="rpc/audit_events_of_user", **headers):
        headers = {"apikey": SERVICE_KEY} | ({"Authorization": f"Bearer {token}"} if token else {}) | headers
        return httpx2.get(f"{gateway.url}/rest/v1/{path}", headers=headers, timeout=30)

    mine = mint(**claims_of(ada))
    for path in ("rpc/audit_events_of_user", "audit_logs?select=action"):
        assert sorted(each["action"] for each in read(mine, path).json()) == ["ada.1", "ada.2"]
    assert read(mine, f"audit_logs?select=action&actor_id=eq.{bob}").json() == []
    hostile = {
        "request.jwt.claims": json.dumps(claims_of(bob)),
        "usersync-context": json.dumps({"actor_id": str(bob)}),
    }
    assert sorted(each["action"] for each in read(mine, **hostile).json()) == ["ada.1", "ada.2"]
    head, body, _ = mint(**claims_of(bob)).split(".")
    anonymous = mint(**claims_of(ada, is_anonymous=True))
    assert read(anonymous).json() == []
    monkeypatch.setattr(postgrest_server, "JWT_SECRET", "another secret, as long as the real one")
    forged = mint(**claims_of(bob))
    for token in (forged, ".".join([head, body, mine.split(".")[2]]), f"{head}.{body}."):
        assert read(token).status_code == 401


def test_reading_own_events_is_off_by_default_and_can_be_turned_off(users, signed_in, postgres):
    ada, _ = users
    assert run(installation.plan(OPEN), postgres).changes == ()
    assert [check.status for check in run(examine(OPEN, choose(["D009", "D024"])), postgres)] == ["ok", "ok"]
    run(installation.apply(with_audit_log()), postgres)
    assert run(installation.plan(with_audit_log()), postgres).changes == ()
    for refused, error in ((LISTED, "UndefinedFunction"), (READ, "InsufficientPrivilege")):
        with pytest.raises(getattr(psycopg.errors, error)):
            signed_in(claims_of(ada)).execute(refused)
    run(installation.apply(BOTH), postgres)
    assert run(installation.plan(BOTH), postgres).changes == ()
    send(postgres, event(action="acme.1", tenant_id="acme"))
    session = signed_in(claims_of(ada, app_metadata={"tenant_id": "acme"}))
    assert found(session, LISTED) == ["ada.1", "ada.2"]
    assert found(session, "select action from public.audit_events_of_tenant()") == ["acme.1"]
    assert found(session, READ) == ["acme.1", "ada.1", "ada.2"]
    postgres.execute('alter policy "A user reads their own events" on public.audit_logs to public')
    assert [each.subject for each in run(installation.plan(BOTH), postgres).changes] == [
        "table public.audit_logs"
    ]


def test_reading_own_events_requires_usersyncs_own_log():
    assert parse_settings(BOTH.describe()) == BOTH
    for given, message in (
        ({"users_read": "yes"}, "expected true or false"),
        ({"users_read": True, "columns": {"id": "i"}}, "own table"),
    ):
        with pytest.raises(SettingsError, match=message):
            parse_settings({"audit": given})
