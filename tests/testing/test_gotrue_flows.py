"""What each request writes to auth.users: how often, in how many transactions, what changes (facts 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

RECORDER = """
    create schema recorder;
    create table recorder.writes (
      n bigint generated always as identity, op text, xid xid8, before jsonb, after jsonb);
    create function recorder.record() returns trigger language plpgsql security definer set search_path = ''
    as $$
    begin
      insert into recorder.writes (op, xid, before, after) values (
        tg_op, pg_catalog.pg_current_xact_id(),
        case when tg_op <> 'INSERT' then pg_catalog.to_jsonb(old) end,
        case when tg_op <> 'DELETE' then pg_catalog.to_jsonb(new) end);
      return null;
    end $$;
    create trigger recorder after insert or update or delete on auth.users
      for each row execute function recorder.record()
"""


@dataclass(frozen=True)
class Writes:
    """What one request wrote: the operation of each statement, and the columns each UPDATE changed."""

    operations: str
    transactions: int
    changed: list[set[str]]


@pytest.fixture
def recorded(superuser):
    """Call a method of the driver and return its result, with what it wrote."""
    superuser.execute(RECORDER)

    def call(method, *arguments, **options):
        superuser.execute("truncate recorder.writes")
        result = method(*arguments, **options)
        rows = superuser.execute("select op, xid, before, after from recorder.writes order by n").fetchall()
        updates = [(before, after) for op, _, before, after in rows if op == "UPDATE"]
        changed = [{key for key in new if new[key] != old[key]} - {"updated_at"} for old, new in updates]
        operations = "".join(op[0] for op, *_ in rows)
        return result, Writes(operations, len({xid for _, xid, *_ in rows}), changed)

    return call


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


def test_signing_up_again_before_confirming_sends_another_token(auth, recorded):
    first = auth.sign_up_email("a@example.com", autoconfirm=False)
    again, writes = recorded(auth.sign_up_email, "a@example.com", autoconfirm=False)
    assert again == first
    assert writes.changed == [{"confirmation_token", "confirmation_sent_at"}]


def test_sign_up_by_phone(auth, recorded):
    user_id, writes = recorded(auth.sign_up_phone, "15551234567")
    assert (writes.operations, writes.transactions) == ("IUUUUU", 2)
    assert auth.user(user_id)["email"] is None


@pytest.mark.parametrize("name", ["Ada Lovelace", None])
def test_sign_up_by_phone_and_confirmation(auth, recorded):
    user_id, writes = recorded(auth.sign_up_phone, autoconfirm=False)
    assert (writes.operations, writes.transactions) == ("IUUUU", 1)
    _, writes = recorded(auth.confirm, user_id)
    assert writes.operations == "UUU"
    assert writes.changed[0] == {"confirmation_token", "phone_confirmed_at", "confirmed_at"}
    assert auth.user(user_id)["email_confirmed_at"] is None


def test_sign_up_by_oauth(auth, recorded, name):
    user_id, writes = recorded(auth.sign_up_oauth, "github", name=name)
    assert (writes.operations, writes.transactions) == ("IUUUUUUU", 1)
    user = auth.user(user_id)
    assert user["encrypted_password"] is None
    assert user["raw_user_meta_data"].get("full_name") == name
    assert user["raw_app_meta_data"] == {"provider": "github", "providers": ["github"]}


def test_sign_up_by_oauth_without_an_address(auth, recorded):
    user_id, writes = recorded(auth.sign_up_oauth, "x", shares_email=False)
    assert (writes.operations, writes.transactions) == ("IUU", 1)
    user = auth.user(user_id)
    assert user["email"] is None
    assert user["email_confirmed_at"] is None


def test_sso_users_may_share_an_address(auth, recorded):
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


def test_creation_by_an_administrator(auth, recorded):
    options = {"role": "editor", "app_metadata": {"plan": "pro"}, "ban": timedelta(days=1)}
    user_id, writes = recorded(auth.admin_create, phone="15550001111", email="a@example.com", **options)
    assert (writes.operations, writes.transactions) == ("IUUUUUU", 1)
    assert writes.changed[:2] == [{"role"}, {"raw_app_meta_data"}]
    assert writes.changed[-1] == {"banned_until"}
    assert auth.user(user_id)["raw_app_meta_data"]["plan"] == "pro"
    assert auth.user(user_id)["last_sign_in_at"] is None


def test_invitation(auth, recorded):
    user_id, writes = recorded(auth.invite)
    assert (writes.operations, writes.transactions) == ("IUU", 1)
    assert writes.changed[1] == {"confirmation_token", "confirmation_sent_at", "invited_at"}
    assert auth.user(user_id)["email_confirmed_at"] is None
    _, writes = recorded(auth.confirm, user_id)
    assert (writes.operations, writes.transactions) == ("UUUUU", 1)
    assert "encrypted_password" in writes.changed[0]


def test_what_happens_every_day_changes_nothing_that_is_mirrored(auth, recorded):
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


def test_only_the_last_step_changes_an_address(auth, recorded):
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


def test_change_of_phone(auth, recorded):
    user_id = auth.sign_up_phone("15550000001")
    _, writes = recorded(auth.change_phone, user_id, "15550000002")
    assert ["phone" in changed for changed in writes.changed] == [False, True, False, False]


def test_an_anonymous_user_becomes_permanent_by_a_phone(auth, recorded):
    user_id = auth.sign_up_anonymous()
    _, writes = recorded(auth.change_phone, user_id, "15550000004")
    assert [len(changed & {"phone", "is_anonymous"}) for changed in writes.changed] == [0, 1, 1, 0, 0]
    assert "phone" in writes.changed[1], "the other way round than for an e-mail"
    assert auth.user(user_id)["raw_app_meta_data"] == {"provider": "phone", "providers": ["phone"]}


def test_metadata_is_merged_and_null_deletes(auth, recorded):
    user_id = auth.sign_up_email(data={"a": 1, "b": 2})
    _, writes = recorded(auth.update_user_metadata, user_id, a=None, c=3)
    assert writes.changed == [{"raw_user_meta_data"}]
    metadata = auth.user(user_id)["raw_user_meta_data"]
    assert ("a" in metadata, metadata["b"], metadata["c"]) == (False, 2, 3)
    assert recorded(auth.update_app_metadata, user_id, plan="pro")[1].changed == [{"raw_app_meta_data"}]


def test_unlinking_the_phone_forgets_it(auth, recorded):
    user_id = auth.admin_create("a@example.com", phone="15550000003")
    _, writes = recorded(auth.unlink_identity, user_id, "phone")
    assert writes.changed == [{"phone"}, {"phone_confirmed_at"}, {"raw_app_meta_data"}]


def test_unlinking_the_address_promotes_another(auth, recorded):
    user_id = auth.sign_up_email("a@example.com")
    auth.link_identity(user_id, "github", email="b@example.com")
    _, writes = recorded(auth.unlink_identity, user_id, "email")
    assert writes.changed == [{"email"}, {"raw_app_meta_data"}]
    assert auth.user(user_id)["email"] == "b@example.com"


def test_ban_and_unban(auth, recorded):
    user_id = auth.sign_up_email()
    assert recorded(auth.ban, user_id, timedelta(hours=1))[1].changed == [{"banned_until"}]
    assert recorded(auth.unban, user_id)[1].changed == [{"banned_until"}]
    assert auth.user(user_id)["banned_until"] is None


def test_updated_at_goes_along_with_everything(auth, superuser):
    user_id = auth.sign_up_email()
    before = auth.user(user_id)["updated_at"]
    auth.refresh_token(user_id)
    assert auth.user(user_id)["updated_at"] > before


def test_forgotten_anonymous_users_go_a_hundred_at_a_time(auth):
    long_ago = datetime.now(UTC) - timedelta(days=31)
    with auth.request():
        for _ in range(101):
            auth.sign_up_anonymous(created_at=long_ago)
    fresh, permanent = auth.sign_up_anonymous(), auth.sign_up_email()
    assert (auth.cleanup_anonymous(), auth.cleanup_anonymous(), auth.cleanup_anonymous()) == (100, 1, 0)
    assert auth.user(fresh)
    assert auth.user(permanent)


def test_an_import_is_one_statement_and_one_transaction(auth, recorded, superuser):
    ids, writes = recorded(auth.import_users, 50)
    assert (writes.operations, writes.transactions) == ("I" * 50, 1)
    assert auth.user(ids[6])["email"] == "user-7@import.example.com"
    addresses = [f"copied-{n}@example.com" for n in range(20)]
    copied, writes = recorded(auth.copy_users, addresses)
    assert (writes.operations, writes.transactions) == ("I" * 20, 1)
    assert [auth.user(user_id)["email"] for user_id in copied] == addresses
