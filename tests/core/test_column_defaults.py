"""A column without a value of the user keeps its DEFAULT, unless the settings say ``absent = "null"``."""

from __future__ import annotations

import pytest

from usersync import UserSync
from usersync.config.settings import parse_settings
from usersync.testing.install import install

TABLE = """
    create type public.mood as enum ('new', 'known');
    create table public.users (
        id uuid primary key,
        email text default 'nobody@example.com',
        role text default 'member',
        mood public.mood not null default 'new',
        level numeric(8,2) default 0,
        token uuid default gen_random_uuid(),
        created_at timestamptz not null default now(),
        member_no bigserial,
        invited_by text default 'it''s (nobody)'
    );
"""
COLUMNS = {
    "email": {"from": "email", "absent": "null"},
    "role": "app_metadata.role",
    "mood": {"from": "app_metadata.mood", "type": "public.mood"},
    "level": {"from": "app_metadata.level", "type": "numeric(8,2)"},
    "token": {"from": "app_metadata.token", "type": "uuid"},
    "created_at": "created_at",
    "member_no": {"from": "app_metadata.member_no", "type": "bigint", "owner": "app"},
    "invited_by": {"from": "user_metadata.invited_by", "owner": "app"},
}


@pytest.fixture
def client(database, postgres):
    postgres.execute(TABLE)
    install(database, parse_settings({"columns": COLUMNS}))
    with UserSync(database.dsn()) as client:
        yield client


@pytest.fixture
def value(postgres):
    def read(user, column):
        return postgres.execute(f"select {column}::text from public.users where id = %s", [user]).fetchone()[
            0
        ]

    return read


def _make(how, auth, client, superuser):
    if how == "sign-up":
        return auth.sign_up_anonymous()
    superuser.execute("set session_replication_role = replica")
    (user,) = superuser.execute(
        "insert into auth.users (id, is_anonymous) values (gen_random_uuid(), true) returning id"
    ).fetchone()
    if how == "ensure":
        client.ensure_user_exists(user)
    elif how == "reconcile":
        client.reconcile()
    else:  # The trigger for updates inserts the missing row.
        auth.connection.execute(
            "update auth.users set raw_app_meta_data = '{\"level\": 0}' where id = %s", [user]
        )
    return user


@pytest.mark.parametrize("how", ["sign-up", "ensure", "reconcile", "update"])
def test_a_missing_value_leaves_the_column_default(client, auth, superuser, value, how):
    user = _make(how, auth, client, superuser)
    assert [value(user, name) for name in ("email", "role", "mood", "level", "invited_by")] == [
        None,
        "member",
        "new",
        "0.00",
        "it's (nobody)",
    ]
    assert all(value(user, name) for name in ("token", "created_at", "member_no"))
    assert client.failures() == []
    assert client.status().in_step
    assert client.reconcile().counts.differing == 0


def test_each_row_of_one_statement_gets_its_own_default(client, auth, postgres):
    auth.connection.execute(
        "insert into auth.users (id, email, created_at) "
        "select gen_random_uuid(), n || '@example.com', now() from generate_series(1, 20) as n"
    )
    rows = postgres.execute(
        "select count(distinct token), count(distinct member_no), count(*) from public.users"
    )
    assert rows.fetchone() == (20, 20, 20)
    assert client.status().in_step


def test_removing_a_value_restores_the_column_default(client, auth, value):
    user = auth.admin_create("ada@example.com", app_metadata={"role": "admin", "mood": "known"})
    assert (value(user, "role"), value(user, "mood")) == ("admin", "known")
    auth.update_app_metadata(user, role=None)
    assert (value(user, "role"), value(user, "mood")) == ("member", "known")
    assert client.failures() == []
    assert client.status().in_step


def test_a_value_set_by_the_application_stays_while_the_user_has_none(client, auth, postgres, value):
    user = auth.sign_up_email("ada@example.com")
    postgres.execute("update public.users set role = 'moderator', level = null")
    auth.change_email(user, "ada@new.example")
    client.reconcile()
    assert (value(user, "role"), value(user, "level"), value(user, "email")) == (
        "moderator",
        None,
        "ada@new.example",
    )
    auth.update_app_metadata(user, role="admin", level=2)
    assert (value(user, "role"), value(user, "level")) == ("admin", "2.00")
    assert client.status().in_step


def test_a_changed_default_applies_to_new_rows_only(client, auth, postgres, value):
    old = auth.sign_up_email("ada@example.com")
    postgres.execute("alter table public.users alter column role set default 'guest'")
    new = auth.sign_up_email("bob@example.com")
    assert (value(old, "role"), value(new, "role")) == ("member", "guest")
    assert client.status().in_step
    assert client.reconcile().counts.differing == 0
    assert value(old, "role") == "member"
    postgres.execute("alter table public.users alter column role drop default")
    assert client.status().stale == 2
    client.reconcile()
    assert value(old, "role") is None


def test_a_default_that_raises_is_a_sync_failure_with_its_sqlstate(client, auth, postgres):
    postgres.execute(
        "alter table public.users alter column role set default (1 / (random() * 0)::integer)::text"
    )
    user = auth.sign_up_email("ada@example.com")
    (failure,) = client.failures()
    assert (failure.user_id, failure.sqlstate) == (user, "22012")
    postgres.execute("alter table public.users alter column role set default 'member'")
    client.retry()
    assert client.status().in_step


def test_a_default_that_violates_a_check_degrades_the_row_and_names_the_column(client, auth, postgres, value):
    user = auth.admin_create("ada@example.com", app_metadata={"role": "admin"})
    postgres.execute("alter table public.users add constraint no_members check (role <> 'member')")
    auth.update_app_metadata(user, role=None)
    (failure,) = client.failures()
    assert (failure.outcome, failure.sqlstate, failure.column) == ("degraded", "23514", "role")
    assert value(user, "role") == "admin"


def test_absent_null_writes_null_instead_of_the_default(database, postgres, auth):
    postgres.execute("create table public.users (id uuid primary key, role text default 'member')")
    install(database, parse_settings({"columns": {"role": {"from": "app_metadata.role", "absent": "null"}}}))
    user = auth.sign_up_email("ada@example.com")
    assert postgres.execute("select id, role from public.users").fetchone() == (user, None)
