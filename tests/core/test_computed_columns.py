"""Columns filled with constants, SQL expressions and the user's id, for each way to create a row."""

from __future__ import annotations

import pytest

from usersync.config.settings import parse_settings
from usersync.errors import ConflictError
from usersync.testing.install import install

COLUMNS = {
    "email": "email",
    "role": {"value": "client"},
    "bio": {"value": ""},
    "credits": {"value": 5},
    "username": {"expression": "left(id::text, 8)"},
    "tag": {"expression": "substr(md5(random()::text), 1, 8)"},
    "joined_at": {"expression": "now()"},
    "domain": {"expression": "split_part(email, '@', 2)", "owner": "auth"},
    "plan": {"value": "free", "owner": "auth"},
    "label": {"from": ["email", "id"]},
    "auth_id": "id",
}


def _make(project, how, sql, insert_without_triggers):
    if how == "sign-up":
        return project.auth.sign_up_email("ada@example.com")
    (user,) = insert_without_triggers(1)
    if how == "ensure":
        assert project.client.ensure_user_exists(user)
    elif how == "reconcile":
        project.client.reconcile()
    elif how == "trigger after the sign-up":
        project.auth.change_email(user, "ada@example.com")
    else:
        sql(
            "insert into usersync.sync_failures (user_id, outcome, sqlstate, message) "
            "values (%s, 'failed', 'X', '')",
            user,
        )
        project.client.retry()
    return user


@pytest.mark.parametrize("how", ["sign-up", "ensure", "reconcile", "trigger after the sign-up", "retry"])
@pytest.mark.settings(columns=COLUMNS)
def test_each_way_to_create_a_row_fills_the_same_computed_values(project, sql, insert_without_triggers, how):
    user = _make(project, how, sql, insert_without_triggers)
    row = project.row(user)
    email = row["email"]
    assert (row["role"], row["bio"], row["credits"], row["plan"]) == ("client", "", 5, "free")
    assert (row["username"], row["domain"], row["label"]) == (str(user)[:8], "example.com", email)
    assert row["auth_id"] == user
    assert len(row["tag"]) == 8
    assert row["joined_at"] is not None
    assert project.client.status().in_step
    assert project.client.reconcile().counts.differing == 0


@pytest.mark.settings(columns=COLUMNS)
def test_a_computed_column_is_filled_once_unless_it_is_mirrored(project, sql):
    user = project.auth.sign_up_email("ada@example.com")
    sql("update {users} set role = 'admin', username = 'ada', plan = 'gold'")
    project.auth.change_email(user, "ada@new.example")
    row = project.row(user)
    assert (row["role"], row["username"]) == ("admin", "ada")
    assert (row["domain"], row["plan"], row["label"]) == ("new.example", "free", "ada@new.example")
    anonymous = project.auth.sign_up_anonymous()
    assert project.row(anonymous)["label"] == str(anonymous)
    assert project.client.status().in_step


def test_computed_values_are_cast_to_the_column_types_of_an_existing_table(database, postgres, auth):
    postgres.execute(
        "create type public.kind as enum ('client', 'coach');"
        "create table public.members ("
        "memberid uuid primary key, owner_id uuid not null, kind public.kind not null, "
        "slug varchar(8) not null unique, visits bigint not null, seen timestamptz not null)"
    )
    settings = parse_settings(
        {
            "users_table": "public.members",
            "key": "memberid",
            "on_delete": "keep",
            "columns": {
                "owner_id": "id",
                "kind": {"value": "client", "type": "public.kind"},
                "slug": {"expression": "left(id::text, 8)", "on_conflict": "suffix"},
                "visits": {"value": 0},
                "seen": {"expression": "now()"},
            },
        }
    )
    install(database, settings)
    user = auth.sign_up_email("ada@example.com")
    row = postgres.execute(
        "select memberid, owner_id, kind::text, slug, visits from public.members"
    ).fetchone()
    assert row == (user, user, "client", str(user)[:8], 0)
    assert postgres.execute("select count(*) from usersync.sync_failures").fetchone() == (0,)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("no_such_column", "no_such_column"),
        ("id ||", "syntax error"),
        ("my_function(id)", "my_function"),
        ("id", "seen"),
    ],
)
def test_an_invalid_expression_is_rejected_before_anything_is_installed(
    database, postgres, expression, message
):
    postgres.execute("create table public.users (id uuid primary key, seen timestamptz)")
    settings = parse_settings({"columns": {"seen": {"expression": expression}}})
    with pytest.raises(ConflictError, match=r"columns\.seen: the database rejects the expression") as caught:
        install(database, settings)
    assert message in str(caught.value)
    assert postgres.execute("select to_regnamespace('usersync')").fetchone() == (None,)


@pytest.mark.settings(columns=COLUMNS)
def test_an_expression_reads_auth_users_and_no_column_of_the_application(project, sql):
    """``id`` in an expression is the column of auth.users, whatever variables usersync's functions have."""
    sql("alter table {users} add column ids text default 'x', add column source text")
    user = project.auth.sign_up_email("ada@example.com")
    assert project.row(user)["username"] == str(user)[:8]
