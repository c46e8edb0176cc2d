"""Each method of both clients, over each transport."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from usersync.core.users import user_id_of
from usersync.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    NotInstalledError,
    UserNotFoundError,
    UserStillExistsError,
)

pytestmark = pytest.mark.newest_server

UNKNOWN_USER = uuid.UUID(int=7)


def test_every_method_finds_an_existing_user(project, client):
    user = project.auth.sign_up_email("ada@example.com")
    assert client.user_exists(user) is True
    assert client.ensure_user_exists(str(user)) is True
    assert client.sync_auth_user(user) is True
    assert client.status().in_step


def test_an_unknown_user_raises_or_returns_false(client):
    assert client.user_exists(UNKNOWN_USER) is False
    assert client.ensure_user_exists(UNKNOWN_USER) is False
    with pytest.raises(UserNotFoundError, match=str(UNKNOWN_USER)) as caught:
        client.sync_auth_user(UNKNOWN_USER)
    assert caught.value.hint
    with pytest.raises(UserNotFoundError, match=str(UNKNOWN_USER)):
        client.remove_user(UNKNOWN_USER)


def test_a_missing_row_is_created(client, insert_without_triggers):
    first, second = insert_without_triggers(2)
    assert client.status().missing == 2
    assert client.user_exists(first) is False
    assert client.ensure_user_exists(first) is True
    assert client.sync_auth_user(second) is True
    assert client.status().in_step


def test_all_missing_rows_are_created(project, client, insert_without_triggers):
    insert_without_triggers(3)
    result = client.sync_all_missing_users()
    assert (result.synced, result.errors, result.counts.missing) == (3, 0, 3)
    assert result.run_id is not None
    assert project.client.status().in_step
    assert client.sync_all_missing_users().synced == 0


def test_remove_user_removes_the_row_of_a_deleted_user_only(project, client, delete_without_triggers):
    gone, alive = project.auth.sign_up_email("gone@example.com"), project.auth.sign_up_email("a@example.com")
    delete_without_triggers(gone)
    assert client.remove_user(gone) is True
    assert project.row(gone)["email"] is None
    with pytest.raises(UserStillExistsError, match=str(alive)):
        client.remove_user(alive)
    assert project.row(alive)["email"] == "a@example.com"


def test_a_failure_is_listed_and_tried_again(project, client):
    email = project.column("email")
    project.owner.execute(f"alter table {project.users} add constraint no check ({email} is null) not valid")
    user = project.auth.sign_up_email("ada@example.com")
    (failure,) = client.failures()
    assert (failure.user_id, failure.sqlstate, failure.constraint) == (user, "23514", "no")
    assert client.sync_auth_user(user) is False
    assert client.failures(limit=0) == []
    again = client.retry()
    assert (again.counts.examined, again.synced, again.errors) == (1, 0, 1)
    project.owner.execute(f"alter table {project.users} drop constraint no")
    assert client.retry(UNKNOWN_USER).counts.examined == 0
    assert client.retry(user).synced == 1
    assert client.failures() == []
    assert project.row(user)["email"] == "ada@example.com"


def test_each_method_raises_not_installed_without_usersync(database, make_client, flavour):
    client = make_client(flavour, "dsn", database.dsn())
    for call in (
        lambda: client.user_exists(UNKNOWN_USER),
        lambda: client.ensure_user_exists(UNKNOWN_USER),
        lambda: client.sync_auth_user(UNKNOWN_USER),
        lambda: client.remove_user(UNKNOWN_USER),
        client.status,
        client.failures,
        client.retry,
        client.reconcile,
        lambda: client.reconcile(dry_run=True),
        lambda: client.reconcile(resume=True),
    ):
        with pytest.raises(NotInstalledError, match="usersync") as caught:
            call()
        assert caught.value.hint == "Run: usersync apply"


@dataclass
class WithId:
    id: object


@pytest.mark.parametrize(
    "user",
    [
        UNKNOWN_USER,
        str(UNKNOWN_USER),
        str(UNKNOWN_USER).upper(),
        UNKNOWN_USER.hex,
        WithId(UNKNOWN_USER),
        WithId(str(UNKNOWN_USER)),
        {"id": str(UNKNOWN_USER), "email": "x@example.com"},
        # What supabase-py returns: UserResponse(user=User(id="…")), and the same as plain data.
        SimpleNamespace(user=SimpleNamespace(id=str(UNKNOWN_USER), email="x@example.com")),
        {"user": {"id": str(UNKNOWN_USER)}},
    ],
)
def test_an_id_is_found_in_each_supported_value(user):
    assert user_id_of(user) == UNKNOWN_USER


@pytest.mark.parametrize(
    "user",
    [
        *(None, 5, 1.5, True, b"x" * 16, [], {}, object(), "", "ada@example.com", "x" * 10_000, "\0"),
        *(
            {"id": None},
            {"id": 5},
            {"id": {}},
            WithId(None),
            WithId("ada@example.com"),
            {"user": None},
            WithId(id),
        ),
    ],
)
def test_a_value_without_an_id_raises_an_error_without_the_value(user):
    error = ArgumentValueError if is_text(user) else ArgumentTypeError
    with pytest.raises(error) as caught:
        user_id_of(user)
    assert "ada@example.com" not in str(caught.value)
    assert ("text is not a UUID" if is_text(user) else type(user).__name__) in str(caught.value)


def is_text(user):
    part = user.get("id") if isinstance(user, dict) else getattr(user, "id", None)
    return isinstance(user if part is None else part, str)
