"""What each kind of sign-up writes to auth.users, and in how many statements and transactions."""

from __future__ import annotations

from datetime import timedelta

import pytest


def test_sign_up_by_email_with_autoconfirm(auth, recorded):
    user_id, writes = recorded(auth.sign_up_email, "Ada@Example.com", data={"full_name": "Ada"})
    assert (writes.operations, writes.transactions) == ("IUUUUUU", 2)
    assert writes.changed == [
        {"role"},
        {"raw_user_meta_data"},
        set(),
        {"email_confirmed_at", "confirmed_at"},
        {"raw_user_meta_data"},
        {"last_sign_in_at"},
    ]
    user = auth.user(user_id)
    assert user["email"] == "ada@example.com"
    assert user["role"] == user["aud"] == "authenticated"
    assert user["raw_user_meta_data"]["full_name"] == "Ada"
    assert user["raw_user_meta_data"]["email_verified"] is True
    assert user["raw_app_meta_data"] == {"provider": "email", "providers": ["email"]}
    assert user["phone"] is None


def test_sign_up_by_email_and_confirmation(auth, recorded):
    user_id, writes = recorded(auth.sign_up_email, autoconfirm=False)
    assert (writes.operations, writes.transactions) == ("IUUUU", 1)
    assert writes.changed[-1] == {"confirmation_token", "confirmation_sent_at"}
    _, writes = recorded(auth.confirm, user_id)
    assert (writes.operations, writes.transactions) == ("UUUU", 1)
    assert writes.changed[0] == {"confirmation_token", "email_confirmed_at", "confirmed_at"}
    assert writes.changed[1:] == [{"raw_user_meta_data"}, set(), {"last_sign_in_at"}]


def test_a_second_sign_up_before_the_confirmation_sends_another_token(auth, recorded):
    first = auth.sign_up_email("a@example.com", autoconfirm=False)
    again, writes = recorded(auth.sign_up_email, "a@example.com", autoconfirm=False)
    assert again == first
    assert writes.changed == [{"confirmation_token", "confirmation_sent_at"}]


def test_sign_up_by_phone(auth, recorded):
    user_id, writes = recorded(auth.sign_up_phone, "15551234567")
    assert (writes.operations, writes.transactions) == ("IUUUUU", 2)
    assert auth.user(user_id)["email"] is None


def test_sign_up_by_phone_and_confirmation(auth, recorded):
    user_id, writes = recorded(auth.sign_up_phone, autoconfirm=False)
    assert (writes.operations, writes.transactions) == ("IUUUU", 1)
    _, writes = recorded(auth.confirm, user_id)
    assert writes.operations == "UUU"
    assert writes.changed[0] == {"confirmation_token", "phone_confirmed_at", "confirmed_at"}
    assert auth.user(user_id)["email_confirmed_at"] is None


@pytest.mark.parametrize("name", ["Ada Lovelace", None])
def test_sign_up_by_oauth(auth, recorded, name):
    user_id, writes = recorded(auth.sign_up_oauth, "github", name=name)
    assert (writes.operations, writes.transactions) == ("IUUUUUUU", 1)
    user = auth.user(user_id)
    assert user["encrypted_password"] is None
    assert user["raw_user_meta_data"].get("full_name") == name
    assert user["raw_app_meta_data"] == {"provider": "github", "providers": ["github"]}


def test_sign_up_by_oauth_without_an_email(auth, recorded):
    user_id, writes = recorded(auth.sign_up_oauth, "x", shares_email=False)
    assert (writes.operations, writes.transactions) == ("IUU", 1)
    user = auth.user(user_id)
    assert user["email"] is None
    assert user["email_confirmed_at"] is None


def test_sso_users_may_share_an_email(auth, recorded):
    first = auth.sign_up_email("ada@corp.example")
    second, writes = recorded(auth.sign_up_sso, "ada@corp.example")
    third = auth.sign_up_sso("ada@corp.example")
    assert writes.operations == "IUUUUUUU"
    assert len({first, second, third}) == 3
    assert {auth.user(user_id)["email"] for user_id in (first, second, third)} == {"ada@corp.example"}


def test_sign_up_anonymously(auth, recorded, superuser):
    user_id, writes = recorded(auth.sign_up_anonymous)
    assert (writes.operations, writes.transactions) == ("IUU", 1)
    user = auth.user(user_id)
    assert (user["email"], user["phone"], user["raw_app_meta_data"]) == (None, None, {})
    assert superuser.execute("select count(*) from auth.identities").fetchone() == (0,)


def test_sign_up_by_wallet(auth, recorded, superuser):
    user_id, writes = recorded(auth.sign_up_web3, "solana")
    assert (writes.operations, writes.transactions) == ("IUU", 1)
    user = auth.user(user_id)
    assert (user["email"], user["phone"], user["is_anonymous"]) == (None, None, False)
    assert user["raw_app_meta_data"] == {"provider": "web3", "providers": ["web3"]}
    metadata = user["raw_user_meta_data"]
    assert metadata["sub"] == f"web3:solana:{metadata['custom_claims']['address']}"
    provider = superuser.execute("select provider, provider_id from auth.identities").fetchone()
    assert provider == ("web3", metadata["sub"])


def test_sign_up_by_an_administrator(auth, recorded):
    options = {"role": "editor", "app_metadata": {"plan": "pro"}, "ban": timedelta(days=1)}
    user_id, writes = recorded(auth.admin_create, phone="15550001111", email="a@example.com", **options)
    assert (writes.operations, writes.transactions) == ("IUUUUUU", 1)
    assert writes.changed[:2] == [{"role"}, {"raw_app_meta_data"}]
    assert writes.changed[-1] == {"banned_until"}
    assert auth.user(user_id)["raw_app_meta_data"]["plan"] == "pro"
    assert auth.user(user_id)["last_sign_in_at"] is None


def test_sign_up_by_invitation(auth, recorded):
    user_id, writes = recorded(auth.invite)
    assert (writes.operations, writes.transactions) == ("IUU", 1)
    assert writes.changed[1] == {"confirmation_token", "confirmation_sent_at", "invited_at"}
    assert auth.user(user_id)["email_confirmed_at"] is None
    _, writes = recorded(auth.confirm, user_id)
    assert (writes.operations, writes.transactions) == ("UUUUU", 1)
    assert "encrypted_password" in writes.changed[0]


def test_an_import_is_one_statement_and_one_transaction(auth, recorded, superuser):
    ids, writes = recorded(auth.import_users, 50)
    assert (writes.operations, writes.transactions) == ("I" * 50, 1)
    assert auth.user(ids[6])["email"] == "user-7@import.example.com"
    addresses = [f"copied-{n}@example.com" for n in range(20)]
    copied, writes = recorded(auth.copy_users, addresses)
    assert (writes.operations, writes.transactions) == ("I" * 20, 1)
    assert [auth.user(user_id)["email"] for user_id in copied] == addresses
