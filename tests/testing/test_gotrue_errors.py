"""What the server answers when the database refuses, and that nothing of the request is left (facts 1.5)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from usersync.testing import GoTrue, GoTrueError

NAIVE = """
    create or replace function public.handle_new_user() returns trigger language plpgsql security definer
    set search_path = '' as $$ begin raise exception 'no such plan'; end $$;
    create trigger on_auth_user_created %s on auth.users
      for each row execute function public.handle_new_user()
"""
ON_INSERT = NAIVE % "after insert"


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
def test_a_naive_trigger_that_raises_takes_the_sign_up_with_it(auth, postgres, superuser, method, message):
    postgres.execute(ON_INSERT)
    with pytest.raises(GoTrueError) as refused:
        getattr(auth, method)()
    error = refused.value
    assert (error.status, error.code, error.message) == (500, "unexpected_failure", message)
    assert error.sqlstate == "P0001"
    assert "no such plan" in str(error.__cause__)
    assert counts(superuser) == [0, 0, 0, 0, 0]


def test_the_update_of_the_role_has_words_of_its_own(auth, postgres, superuser):
    postgres.execute(NAIVE % "after update")
    with pytest.raises(GoTrueError, match="Database error updating user"):
        auth.sign_up_email()
    assert counts(superuser)[0] == 0


def test_a_failing_commit_is_answered_without_words(auth, postgres, superuser):
    deferred = ON_INSERT.replace("create trigger", "create constraint trigger")
    deferred = deferred.replace("for each row", "deferrable initially deferred for each row")
    postgres.execute(deferred)
    with pytest.raises(GoTrueError, match="Unexpected failure, please check server logs"):
        auth.sign_up_email()
    assert counts(superuser)[0] == 0


def test_deleting_a_user_whom_something_references(auth, postgres):
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
def test_updates_that_are_refused(auth, postgres, call, message):
    user_id = auth.sign_up_email()
    postgres.execute(NAIVE % "after update")
    with pytest.raises(GoTrueError, match=message):
        call(auth, user_id)


def test_addresses_that_are_taken(auth):
    auth.sign_up_email("ada@example.com")
    with pytest.raises(GoTrueError, match="422 user_already_exists"):
        auth.sign_up_email("ADA@example.com")
    with pytest.raises(GoTrueError, match="422 email_exists"):
        auth.admin_create("ada@example.com")
    made_up = auth.sign_up_email("ada@example.com", autoconfirm=False)
    with pytest.raises(GoTrueError, match="404"):
        auth.user(made_up)


def test_a_banned_user_cannot_sign_in(auth):
    user_id = auth.admin_create(ban=timedelta(days=1))
    with pytest.raises(GoTrueError, match="400 user_banned"):
        auth.sign_in(user_id)
    auth.unban(user_id)
    assert auth.sign_in(user_id) == user_id


def test_the_last_identity_stays(auth):
    user_id = auth.sign_up_email()
    with pytest.raises(GoTrueError, match="single_identity_not_deletable"):
        auth.unlink_identity(user_id, "email")


def test_changing_to_the_address_of_another_user(auth):
    auth.admin_create("ada@example.com", phone="15550000005")
    user_id = auth.sign_up_email()
    with pytest.raises(GoTrueError, match="422 email_exists"):
        auth.change_email(user_id, "ada@example.com")
    with pytest.raises(GoTrueError, match="422 phone_exists"):
        auth.change_phone(user_id, "15550000005")


def test_unlinking_to_the_address_of_another_user(auth):
    auth.sign_up_email("ada@example.com")
    user_id = auth.sign_up_email()
    auth.link_identity(user_id, "github", email="ada@example.com")
    with pytest.raises(GoTrueError, match="email_conflict_identity_not_deletable"):
        auth.unlink_identity(user_id, "email")


def test_a_request_of_the_tests_own_holds_several_together(auth, database, superuser):
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
