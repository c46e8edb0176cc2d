"""The auth server's answers to database errors. The whole request is rolled back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from usersync.testing import GoTrue, GoTrueError

RAISING_TRIGGER = """
    create or replace function public.handle_new_user() returns trigger language plpgsql security definer
    set search_path = '' as $$ begin raise exception 'no such plan'; end $$;
    create trigger on_auth_user_created %s on auth.users
      for each row execute function public.handle_new_user()
"""
ON_INSERT = RAISING_TRIGGER % "after insert"


def counts(superuser):
    tables = ("users", "identities", "sessions", "one_time_tokens", "refresh_tokens")
    return [superuser.execute(f"select count(*) from auth.{table}").fetchone()[0] for table in tables]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("sign_up_email", "Database error saving new user"),
        ("sign_up_phone", "Database error saving new user"),
        ("sign_up_oauth", "Database error saving new user"),
        ("sign_up_sso", "Database error saving new user"),
        ("invite", "Database error saving new user"),
        ("sign_up_anonymous", "Database error creating anonymous user"),
        ("admin_create", "Database error creating new user"),
    ],
)
def test_a_trigger_that_raises_fails_the_sign_up(auth, postgres, superuser, method, message):
    postgres.execute(ON_INSERT)
    with pytest.raises(GoTrueError) as refused:
        getattr(auth, method)()
    error = refused.value
    assert (error.status, error.code, error.message) == (500, "unexpected_failure", message)
    assert error.sqlstate == "P0001"
    assert "no such plan" in str(error.__cause__)
    assert counts(superuser) == [0, 0, 0, 0, 0]


def test_a_trigger_that_raises_on_update_has_another_message(auth, postgres, superuser):
    postgres.execute(RAISING_TRIGGER % "after update")
    with pytest.raises(GoTrueError, match="Database error updating user"):
        auth.sign_up_email()
    assert counts(superuser)[0] == 0


def test_an_error_at_commit_has_a_generic_message(auth, postgres, superuser):
    deferred = ON_INSERT.replace("create trigger", "create constraint trigger")
    deferred = deferred.replace("for each row", "deferrable initially deferred for each row")
    postgres.execute(deferred)
    with pytest.raises(GoTrueError, match="Unexpected failure, please check server logs"):
        auth.sign_up_email()
    assert counts(superuser)[0] == 0


def test_a_foreign_key_to_the_user_fails_the_deletion(auth, postgres):
    user_id = auth.sign_up_email()
    postgres.execute("create table public.orders (user_id uuid references auth.users)")
    postgres.execute("insert into public.orders values (%s)", [user_id])
    with pytest.raises(GoTrueError, match="Database error deleting user") as refused:
        auth.hard_delete(user_id)
    assert refused.value.sqlstate == "23503"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda auth, user_id: auth.sign_in(user_id), "Database error granting user"),
        (lambda auth, user_id: auth.update_user_metadata(user_id, a=1), "Error updating user"),
        (lambda auth, user_id: auth.ban(user_id, timedelta(days=1)), "Error updating user"),
        (lambda auth, user_id: auth.soft_delete(user_id), "Error soft deleting user"),
        (lambda auth, user_id: auth.refresh_token(user_id), "Unexpected failure"),
    ],
)
def test_each_update_has_its_error_message(auth, postgres, call, message):
    user_id = auth.sign_up_email()
    postgres.execute(RAISING_TRIGGER % "after update")
    with pytest.raises(GoTrueError, match=message):
        call(auth, user_id)


def test_a_duplicate_email_is_refused_or_answered_with_an_invented_user(auth):
    auth.sign_up_email("ada@example.com")
    with pytest.raises(GoTrueError, match="422 user_already_exists"):
        auth.sign_up_email("ADA@example.com")
    with pytest.raises(GoTrueError, match="422 email_exists"):
        auth.admin_create("ada@example.com")
    invented = auth.sign_up_email("ada@example.com", autoconfirm=False)
    with pytest.raises(GoTrueError, match="404"):
        auth.user(invented)


def test_a_banned_user_cannot_sign_in(auth):
    user_id = auth.admin_create(ban=timedelta(days=1))
    with pytest.raises(GoTrueError, match="400 user_banned"):
        auth.sign_in(user_id)
    auth.unban(user_id)
    assert auth.sign_in(user_id) == user_id


def test_the_last_identity_cannot_be_unlinked(auth):
    user_id = auth.sign_up_email()
    with pytest.raises(GoTrueError, match="single_identity_not_deletable"):
        auth.unlink_identity(user_id, "email")


def test_changing_to_the_email_or_phone_of_another_user_is_refused(auth):
    auth.admin_create("ada@example.com", phone="15550000005")
    user_id = auth.sign_up_email()
    with pytest.raises(GoTrueError, match="422 email_exists"):
        auth.change_email(user_id, "ada@example.com")
    with pytest.raises(GoTrueError, match="422 phone_exists"):
        auth.change_phone(user_id, "15550000005")


def test_unlinking_to_the_email_of_another_user_is_refused(auth):
    auth.sign_up_email("ada@example.com")
    user_id = auth.sign_up_email()
    auth.link_identity(user_id, "github", email="ada@example.com")
    with pytest.raises(GoTrueError, match="email_conflict_identity_not_deletable"):
        auth.unlink_identity(user_id, "email")


def test_a_request_block_runs_several_calls_in_one_transaction(auth, database, superuser):
    def twice():
        with auth.request():
            auth.sign_up_email("ada@example.com")
            assert counts(superuser)[0] == 0, "not committed yet"
            auth.sign_up_email("ada@example.com")

    with pytest.raises(GoTrueError, match="user_already_exists"):
        twice()
    assert counts(superuser)[0] == 0


def test_a_borrowed_connection_stays_open(database, superuser):
    with database.connect("supabase_auth_admin") as connection:
        with GoTrue(connection) as auth, connection.transaction(force_rollback=True):
            auth.sign_up_email()
        assert not connection.closed
    assert counts(superuser)[0] == 0
