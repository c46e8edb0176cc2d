"""Queries that people paste into psql to check a hand-written trigger work with usersync, too."""

from __future__ import annotations

import uuid

import pytest

from usersync.config.settings import Settings
from usersync.testing.install import install


@pytest.fixture
def psql(project):
    """Send a text as psql does: the simple protocol, without parameters."""

    def run(text):
        with project.database.connect("postgres") as connection:
            cursor = connection.execute(text)
            return [dict(zip([c.name for c in cursor.description], row, strict=True)) for row in cursor]

    return run


def test_verify_triggers_exist(psql):
    found = psql("SELECT * FROM information_schema.triggers WHERE trigger_name LIKE 'on_auth_user%'")
    assert {row["trigger_name"]: row["event_manipulation"] for row in found} == {
        "on_auth_user_created": "INSERT",
        "on_auth_user_updated": "UPDATE",
        "on_auth_user_deleted": "DELETE",
    }
    assert {(row["event_object_schema"], row["event_object_table"]) for row in found} == {("auth", "users")}
    assert {row["action_timing"] for row in found} == {"AFTER"}


def test_check_function_exists(psql):
    found = psql("SELECT * FROM information_schema.routines WHERE routine_name = 'handle_new_user'")
    assert [(row["routine_schema"], row["security_type"]) for row in found] == [("usersync", "DEFINER")]


def test_run_manual_sync(psql, project, sql):
    user = project.auth.sign_up_email("ada@example.com")
    sql("delete from {users}")
    (answer,) = psql("SELECT public.sync_existing_auth_users()")
    assert answer["sync_existing_auth_users"]["synced"] == 1
    assert answer["sync_existing_auth_users"]["errors"] == 0
    assert project.row(user)


def test_check_user_exists(database, auth, postgres):
    """On ``database``, and not on ``project``, because the query names public.users."""
    install(database, Settings())
    user = auth.sign_up_email("ada@example.com")
    query = "SELECT * FROM public.users WHERE id = 'user-id'"
    found = postgres.execute(query.replace("user-id", str(user)))
    columns = [column.name for column in found.description]
    assert dict(zip(columns, found.fetchone(), strict=True))["email"] == "ada@example.com"
    assert postgres.execute(query.replace("user-id", str(uuid.uuid4()))).fetchall() == []
