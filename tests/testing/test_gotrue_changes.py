"""What each request after the sign-up changes in auth.users."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from usersync.testing import GoTrueError


def test_an_anonymous_user_becomes_permanent_in_place(auth, recorded):
    user_id = auth.sign_up_anonymous()
    _, writes = recorded(auth.make_permanent, user_id, "ada@example.com")
    first = next(n for n, changed in enumerate(writes.changed) if "is_anonymous" in changed)
    then = next(n for n, changed in enumerate(writes.changed) if "email" in changed)
    assert first < then
    assert writes.transactions == 2
    user = auth.user(user_id)
    assert (user["email"], user["is_anonymous"]) == ("ada@example.com", False)
    assert user["raw_app_meta_data"] == {"provider": "email", "providers": ["email"]}


def test_sign_ins_and_token_refreshes_change_no_mirrored_value(auth, recorded):
    by_password, by_oauth = auth.sign_up_email(), auth.sign_up_oauth()
    assert recorded(auth.sign_in, by_password)[1].changed == [{"last_sign_in_at"}]
    assert recorded(auth.sign_in_oauth, by_oauth)[1].changed == [set(), set(), {"last_sign_in_at"}]
    assert recorded(auth.refresh_token, by_password)[1].changed == [set()]


def test_an_oauth_sign_in_overwrites_user_metadata(auth, recorded):
    user_id = auth.sign_up_oauth(name="Ada")
    auth.update_user_metadata(user_id, full_name="Countess", theme="dark")
    auth.sign_in_oauth(user_id)
    metadata = auth.user(user_id)["raw_user_meta_data"]
    assert (metadata["full_name"], metadata["theme"]) == ("Ada", "dark")


def test_only_the_last_step_of_an_email_change_changes_the_email(auth, recorded):
    user_id = auth.sign_up_email("old@example.com")
    steps = [recorded(auth.request_email_change, user_id, "New@example.com")]
    steps += [recorded(auth.confirm_email_change, user_id) for _ in range(2)]
    assert [any("email" in changed for changed in writes.changed) for _, writes in steps] == [
        False,
        False,
        True,
    ]
    assert auth.user(user_id)["email"] == "new@example.com"
    assert auth.user(user_id)["email_change"] == ""


def test_a_phone_change_is_in_the_second_update(auth, recorded):
    user_id = auth.sign_up_phone("15550000001")
    _, writes = recorded(auth.change_phone, user_id, "15550000002")
    assert ["phone" in changed for changed in writes.changed] == [False, True, False, False]


def test_an_anonymous_user_becomes_permanent_with_a_phone(auth, recorded):
    user_id = auth.sign_up_anonymous()
    _, writes = recorded(auth.change_phone, user_id, "15550000004")
    assert [len(changed & {"phone", "is_anonymous"}) for changed in writes.changed] == [0, 1, 1, 0, 0]
    assert "phone" in writes.changed[1], "in the reverse order of an e-mail"
    assert auth.user(user_id)["raw_app_meta_data"] == {"provider": "phone", "providers": ["phone"]}


def test_a_phone_change_with_autoconfirm_is_one_update(auth, recorded):
    user_id = auth.sign_up_phone("15550000005")
    _, writes = recorded(auth.change_phone, user_id, "15550000006", autoconfirm=True)
    assert ["phone" in changed for changed in writes.changed] == [True]
    assert auth.user(user_id)["phone"] == "15550000006"


def test_an_anonymous_user_adds_an_email_with_autoconfirm_in_one_transaction(auth, recorded):
    user_id = auth.sign_up_anonymous()
    _, writes = recorded(auth.make_permanent, user_id, "ada@example.com", autoconfirm=True)
    assert (writes.operations, writes.transactions) == ("UUUU", 1)
    assert writes.changed[0] == {"is_anonymous"}
    assert "email" in writes.changed[1]
    assert auth.user(user_id)["email_confirmed_at"]


def test_an_anonymous_user_becomes_permanent_by_linking_an_identity(auth, recorded):
    user_id = auth.sign_up_anonymous()
    _, writes = recorded(auth.link_identity, user_id, "github", email="ada@example.com")
    assert (writes.operations, writes.transactions) == ("UUUUUU", 1)
    changed = [
        [name for name in ("email", "email_confirmed_at", "is_anonymous") if name in each]
        for each in writes.changed
    ]
    assert [each for each in changed if each] == [["email"], ["email_confirmed_at"], ["is_anonymous"]]
    user = auth.user(user_id)
    assert (user["email"], user["is_anonymous"]) == ("ada@example.com", False)
    assert user["raw_user_meta_data"] == {"email_verified": True}
    assert user["raw_app_meta_data"] == {"provider": "github", "providers": ["github"]}


def test_linking_an_email_of_another_user_is_refused(auth):
    auth.sign_up_email("ada@example.com")
    user_id = auth.sign_up_anonymous()
    with pytest.raises(GoTrueError, match="400 email_exists"):
        auth.link_identity(user_id, "github", email="ada@example.com")
    assert auth.user(user_id)["is_anonymous"]


def test_metadata_is_merged_and_null_deletes_a_key(auth, recorded):
    user_id = auth.sign_up_email(data={"a": 1, "b": 2})
    _, writes = recorded(auth.update_user_metadata, user_id, a=None, c=3)
    assert writes.changed == [{"raw_user_meta_data"}]
    metadata = auth.user(user_id)["raw_user_meta_data"]
    assert ("a" in metadata, metadata["b"], metadata["c"]) == (False, 2, 3)
    assert recorded(auth.update_app_metadata, user_id, plan="pro")[1].changed == [{"raw_app_meta_data"}]


def test_unlinking_the_phone_removes_it(auth, recorded):
    user_id = auth.admin_create("a@example.com", phone="15550000003")
    _, writes = recorded(auth.unlink_identity, user_id, "phone")
    assert writes.changed == [{"phone"}, {"phone_confirmed_at"}, {"raw_app_meta_data"}]


def test_unlinking_the_email_promotes_the_email_of_another_identity(auth, recorded):
    user_id = auth.sign_up_email("a@example.com")
    auth.link_identity(user_id, "github", email="b@example.com")
    _, writes = recorded(auth.unlink_identity, user_id, "email")
    assert writes.changed == [{"email"}, set(), {"raw_app_meta_data"}]
    assert auth.user(user_id)["email"] == "b@example.com"


def test_requests_work_after_auth_users_was_altered(auth, superuser):
    user_id = auth.sign_up_email()
    for n in range(8):
        auth.sign_in(user_id)
        superuser.execute(f"alter table auth.users add column later_{n} text")
    assert "later_7" in auth.user(user_id)


def test_ban_and_unban_change_only_banned_until(auth, recorded):
    user_id = auth.sign_up_email()
    assert recorded(auth.ban, user_id, timedelta(hours=1))[1].changed == [{"banned_until"}]
    assert recorded(auth.unban, user_id)[1].changed == [{"banned_until"}]
    assert auth.user(user_id)["banned_until"] is None


def test_a_token_refresh_changes_updated_at(auth, superuser):
    user_id = auth.sign_up_email()
    before = auth.user(user_id)["updated_at"]
    auth.refresh_token(user_id)
    assert auth.user(user_id)["updated_at"] > before


def test_old_anonymous_users_are_removed_a_hundred_at_a_time(auth):
    long_ago = datetime.now(UTC) - timedelta(days=31)
    with auth.request():
        for _ in range(101):
            auth.sign_up_anonymous(created_at=long_ago)
    fresh, permanent = auth.sign_up_anonymous(), auth.sign_up_email()
    assert (auth.cleanup_anonymous(), auth.cleanup_anonymous(), auth.cleanup_anonymous()) == (100, 1, 0)
    assert auth.user(fresh)
    assert auth.user(permanent)
