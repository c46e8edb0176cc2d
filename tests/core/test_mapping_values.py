"""What a value in the auth server's table becomes in the users table, by the mapping's rules."""

from __future__ import annotations

import pytest
from psycopg.types.json import Jsonb

COLUMNS = {
    "full_name": ["user_metadata.full_name", "user_metadata.name"],
    "nick": "user_metadata.nick",
    "age": {"from": "user_metadata.age", "type": "integer"},
    "plan": {"from": "app_metadata.plan", "default": "free", "owner": "app"},
    "theme": {
        "from": ["user_metadata.theme", "user_metadata.look"],
        "type": "jsonb",
        "default": '{"dark": 1}',
    },
    "deep": "user_metadata.a.b.c",
    "email": "email",
    "deleted_at": "deleted_at",
}
NASTY = "'; drop table users; -- \" \\ $$ %s 🦄 \u202e"
pytestmark = pytest.mark.settings(columns=COLUMNS)


@pytest.mark.parametrize(
    ("data", "column", "expected"),
    [
        ({}, "full_name", None),
        ({"full_name": None, "name": "Ada"}, "full_name", None),
        ({"full_name": "", "name": "Ada"}, "full_name", ""),
        ({"name": "Ada"}, "full_name", "Ada"),
        ({"full_name": {"first": "Ada"}}, "full_name", '{"first": "Ada"}'),
        ({"full_name": 42}, "full_name", "42"),
        ({"full_name": ["Ada", 1]}, "full_name", '["Ada", 1]'),
        ({"full_name": True}, "full_name", "true"),
        ({"nick": {"a": [1]}}, "nick", '{"a": [1]}'),
        ({"nick": NASTY}, "nick", NASTY),
        ({"a": {"b": {"c": "deep"}}}, "deep", "deep"),
        ({"a": {"b": "not an object"}}, "deep", None),
        ({"age": 36}, "age", 36),
        ({"age": "36"}, "age", 36),
        ({"age": None}, "age", None),
        ({}, "theme", {"dark": 1}),
        ({"theme": "light"}, "theme", "light"),
        ({"look": ["a"]}, "theme", ["a"]),
    ],
)  # fmt: skip
@pytest.mark.newest_server
def test_absent_null_and_empty_are_three_things(project, data, column, expected):
    user = project.auth.admin_create(user_metadata=data)
    assert project.row(user)[column] == expected
    assert project.client.status().in_step


@pytest.mark.parametrize("age", ["old", "", {"n": 1}, 1e30, 3.5, "ada@example.com", [1]])
@pytest.mark.newest_server
def test_a_value_that_does_not_fit_degrades_the_row_and_names_the_column(project, sync_failures, age):
    user = project.auth.sign_up_email("ada@example.com", data={"age": age, "nick": "a"})
    failure = sync_failures()[user]
    assert (failure.outcome, failure.column) == ("degraded", "age")
    assert failure.sqlstate[:2] == "22"
    project.auth.update_user_metadata(user, age=36)
    assert (project.row(user)["age"], project.row(user)["email"]) == (36, "ada@example.com")
    assert sync_failures() == {}


@pytest.mark.parametrize("metadata", [[1, 2], "text", 7, None, True])
def test_metadata_that_is_no_object(project, sync_failures, metadata):
    (user,) = project.auth.connection.execute(
        "insert into auth.users (id, raw_user_meta_data) values (gen_random_uuid(), %s) returning id",
        [Jsonb(metadata)],
    ).fetchone()
    assert project.row(user)["full_name"] is None
    assert sync_failures() == {}


def test_what_the_application_owns_is_filled_once(project, sql, healed):
    free = project.auth.sign_up_email("a@example.com")
    pro = project.auth.admin_create(app_metadata={"plan": "pro"})
    # Filled when the row is made, and the INSERT of an admin comes before the UPDATE of app_metadata.
    assert (project.row(free)["plan"], project.row(pro)["plan"]) == ("free", "free")
    project.auth.update_app_metadata(free, plan="gold")
    assert project.row(free)["plan"] == "free"
    sql("update {users} set plan = 'mine' where {key} = %s", free)
    project.auth.change_email(free, "b@example.com")
    assert (project.row(free)["plan"], project.row(free)["email"]) == ("mine", "b@example.com")
    healed()
    assert project.row(free)["plan"] == "mine"
    sql("delete from {users}")
    healed()
    assert (project.row(free)["plan"], project.row(pro)["plan"]) == ("gold", "pro")


@pytest.mark.slow
@pytest.mark.newest_server
def test_ten_megabytes_and_two_thousand_levels(project, sync_failures):
    big = project.auth.sign_up_email(data={"nick": "x" * 10_000_000})
    assert len(project.row(big)["nick"]) == 10_000_000
    nested = '{"a": {"b": {"c": ' + "[" * 2000 + "]" * 2000 + "}}}"
    (deep,) = project.auth.connection.execute(
        "insert into auth.users (id, raw_user_meta_data) values (gen_random_uuid(), %s::jsonb) returning id",
        [nested],
    ).fetchone()
    assert project.row(deep)["deep"].startswith("[[[")
    assert sync_failures() == {}
    assert project.client.status().in_step


def test_a_nul_is_the_auth_servers_own_error_and_leaves_nothing(project, sync_failures):
    """PostgreSQL's jsonb cannot hold one, so the INSERT itself fails, with or without us."""
    statement = "insert into auth.users (id, raw_user_meta_data) values (gen_random_uuid(), %s::text::jsonb)"
    with pytest.raises(Exception, match="unsupported Unicode escape"):
        project.auth.connection.execute(statement, ['{"nick": "a\\u0000b"}'])
    assert project.client.status().users == 0
    assert sync_failures() == {}


@pytest.mark.settings(columns={}, on_delete="anonymize")
def test_a_mapping_of_nothing_but_the_key_keeps_the_rows(project, sync_failures, healed, sql):
    user = project.auth.sign_up_email("ada@example.com")
    assert project.row(user) == {"id": user}
    project.auth.change_email(user, "ada@new.example.com")
    project.auth.soft_delete(user)
    assert project.row(user) == {"id": user}
    sql("delete from {users}")
    project.auth.sign_up_anonymous()
    healed()
    assert len(sql("select 1 from {users}")) == 1
    assert sync_failures() == {}
