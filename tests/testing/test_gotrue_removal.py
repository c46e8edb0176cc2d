"""Hard and soft deletions of users, and what remains in the auth schema."""

from __future__ import annotations

import hashlib
import re

import pytest

from usersync.testing import GoTrueError


def children(superuser, user_id):
    tables = ["identities", "sessions", "one_time_tokens", "mfa_factors"]
    count = "select count(*) from auth.{} where user_id = %s"
    return {table: superuser.execute(count.format(table), [user_id]).fetchone()[0] for table in tables}


def test_hard_delete_deletes_the_user_and_all_dependent_rows(auth, superuser):
    user_id = auth.sign_up_email()
    auth.request_email_change(user_id, "other@example.com")
    assert children(superuser, user_id) == {
        "identities": 1,
        "sessions": 1,
        "one_time_tokens": 2,
        "mfa_factors": 0,
    }
    auth.hard_delete(user_id)
    assert set(children(superuser, user_id).values()) == {0}
    assert superuser.execute("select count(*) from auth.refresh_tokens").fetchone() == (0,)
    with pytest.raises(GoTrueError, match="404 user_not_found"):
        auth.user(user_id)


@pytest.mark.parametrize("kind", ["sign_up_email", "sign_up_anonymous"])
def test_soft_delete_also_hashes_absent_values(auth, superuser, kind):
    user_id = getattr(auth, kind)()
    email = auth.user(user_id)["email"] or ""
    auth.soft_delete(user_id)
    user = auth.user(user_id)
    assert re.fullmatch(r"[\w-]{43}", user["email"])
    assert re.fullmatch(r"[\w-]{15}", user["phone"])
    digest = hashlib.sha256(f"{user_id}{email}".encode()).hexdigest()
    decoded = "select encode(decode(translate(%s, '-_', '+/') || '=', 'base64'), 'hex')"
    assert superuser.execute(decoded, [user["email"]]).fetchone() == (digest,)
    assert (user["raw_user_meta_data"], user["raw_app_meta_data"]) == ({}, {})
    assert user["deleted_at"] is not None
    assert user["banned_until"] is None
    assert user["encrypted_password"] is None


def test_soft_delete_keeps_the_identities_without_personal_data(auth, superuser):
    user_id = auth.sign_up_oauth(name="Ada")
    auth.soft_delete(user_id)
    kept = "select identity_data, provider_id ~ '^[\\w-]{43}$' from auth.identities where user_id = %s"
    assert superuser.execute(kept, [user_id]).fetchall() == [({}, True)]
    assert children(superuser, user_id)["sessions"] == 0


def test_a_second_soft_delete_changes_nothing(auth):
    user_id = auth.sign_up_email()
    auth.soft_delete(user_id)
    before = auth.user(user_id)
    auth.soft_delete(user_id)
    assert auth.user(user_id) == before


@pytest.mark.parametrize("delete", ["soft_delete", "hard_delete"])
def test_the_email_of_a_deleted_user_can_sign_up_again(auth, delete):
    first = auth.sign_up_email("ada@example.com")
    getattr(auth, delete)(first)
    assert auth.sign_up_again("ada@example.com") != first
