"""The actor of a tracked change: from the application's setting, the JWT claims, or the database role."""

from __future__ import annotations

import json

import pytest

ACTOR = "actor_id, actor_type, metadata ->> 'actor_source', user_id is not null"


@pytest.fixture
def tracker(tracker):
    tracker.execute("create table products (id int generated always as identity primary key, name text)")
    tracker.execute("grant select, insert on products to anon, authenticated, service_role")
    tracker.track("products")
    return tracker


def insert(tracker, **settings):
    with tracker.session(**settings) as session:
        session.execute("insert into products (name) values ('Bolt')")


def test_the_transactions_setting_has_precedence(tracker):
    user_id = tracker.project.auth.sign_up_email("ada@example.com")
    insert(
        tracker,
        usersync__actor_id=str(user_id),
        usersync__request_id="req-1",
        usersync__ip="10.0.0.1",
        usersync__user_agent="curl",
        request__jwt__claims='{"sub": "somebody else"}',
    )
    assert tracker.events(ACTOR) == [(str(user_id), "user", "setting", True)]
    assert tracker.events("request_id, host(ip), user_agent") == [("req-1", "10.0.0.1", "curl")]


def test_a_user_without_a_row_is_named_and_not_linked(tracker):
    unknown = "5d7b3c1e-0000-4000-8000-000000000001"
    insert(tracker, usersync__actor_id=unknown)
    assert tracker.events("actor_id, user_id, metadata ->> 'original_user_id'") == [(unknown, None, unknown)]


def test_recording_does_not_wait_for_a_users_deletion(tracker):
    user_id = tracker.project.auth.sign_up_email("ada@example.com")
    with tracker.session() as deleting:
        deleting.execute(f"select from {tracker.project.users} for update")
        insert(tracker, usersync__actor_id=str(user_id))
    assert tracker.events(ACTOR) == [(str(user_id), "user", "setting", False)]


@pytest.mark.parametrize(
    ("claims", "actor"),
    [
        ({"sub": "u1", "role": "authenticated"}, ("u1", "user", "jwt", False)),
        ({"role": "service_role"}, ("service_role", "service", "jwt", False)),
        ({"role": "anon"}, ("anon", "anonymous", "jwt", False)),
    ],
)
def test_jwt_claims_are_used_without_a_setting(tracker, claims, actor):
    insert(tracker, role=claims["role"], request__jwt__claims=json.dumps(claims))
    assert tracker.events(ACTOR) == [actor]
    assert tracker.events("metadata ->> 'role', db_role") == [(claims["role"], "postgres")]


def test_the_header_of_a_service_key_is_used_after_a_setting(tracker):
    """tests/contrib/supabase tests the other roles and malformed headers."""
    headers = json.dumps(
        {"usersync-context": json.dumps({"actor_id": "ada", "request_id": "r", "tenant_id": "t"})}
    )
    claims = json.dumps({"role": "service_role"})
    told = {"request__headers": headers, "request__jwt__claims": claims}
    insert(tracker, role="service_role", **told)
    insert(tracker, role="service_role", usersync__actor_id="bob", usersync__request_id="s", **told)
    insert(tracker, role="authenticated", **told)
    insert(tracker, **told)
    assert tracker.events("actor_id, metadata ->> 'actor_source', request_id, tenant_id") == [
        ("ada", "header", "r", "t"),
        ("bob", "setting", "s", "t"),
        ("service_role", "jwt", None, None),
        ("service_role", "jwt", None, None),
    ]


def test_the_role_is_used_without_setting_and_claims(tracker):
    insert(tracker)
    insert(tracker, role="authenticated")
    assert tracker.events(ACTOR) == [
        ("postgres", "system", "role", False),
        ("authenticated", "system", "role", False),
    ]


@pytest.mark.parametrize("claims", ["no json", "[]", "5", '{"sub": {"a": 1}}', '"x"'])
def test_changes_are_recorded_with_unreadable_claims(tracker, claims):
    insert(tracker, request__jwt__claims=claims, usersync__ip="no address")
    assert tracker.events("metadata ->> 'ip'") == ["no address"]
    assert not tracker.rejects()


def test_invalid_settings_are_truncated_or_replaced(tracker):
    insert(
        tracker, usersync__actor_id="a" * 300, usersync__actor_type="emperor", usersync__request_id="r" * 300
    )
    assert tracker.events("length(actor_id), actor_type, length(request_id)") == [(200, "user", 200)]


def test_a_setting_ends_with_its_transaction(tracker):
    owner = tracker.project.owner
    with owner.transaction():
        owner.execute("select set_config('usersync.actor_id', 'ada', true)")
        owner.execute("insert into products (name) values ('a')")
    owner.execute("insert into products (name) values ('b')")
    assert tracker.events("metadata ->> 'actor_source'") == ["setting", "role"]


def test_a_forged_actor_is_recorded_with_its_source(tracker):
    with tracker.session(usersync__actor_id="somebody") as session:
        session.execute("set local role authenticated")
        session.execute("insert into products (name) values ('Bolt')")
    assert tracker.events("actor_id, metadata") == [
        ("somebody", {"actor_source": "setting", "role": "authenticated"})
    ]
