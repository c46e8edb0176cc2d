"""usersync on a real project: sign-ups, changes, deletions, events and privileges."""

from __future__ import annotations

import os
import time
from uuid import UUID

import httpx
import pytest

from usersync import AuditLog, UserSync, doctor
from usersync.core.audit_log import has_log
from usersync.errors import UsersyncError
from usersync.transports.run import run

PASSWORD = "correct horse battery staple 4!"  # noqa: S105 - of users who live as long as a test

SIGN_UPS = {
    "email": lambda auth: auth.sign_up(
        email=auth.address(), password=PASSWORD, data={"full_name": "Ada Lovelace"}
    ),
    "phone": lambda auth: auth.sign_up(phone=auth.number(), password=PASSWORD),
    "anonymous": lambda auth: auth.sign_up(),
    "admin": lambda auth: auth.create(
        email=auth.address(), password=PASSWORD, email_confirm=True,
        user_metadata={"full_name": "Ada Lovelace"}, app_metadata={"plan": "pro"},
    ),
    "admin unconfirmed": lambda auth: auth.create(email=auth.address(), password=PASSWORD),
    "admin phone": lambda auth: auth.create(phone=auth.number(), password=PASSWORD, phone_confirm=True),
    "link to sign up": lambda auth: auth.generate_link("signup", email=auth.address(), password=PASSWORD),
    "invitation": lambda auth: auth.generate_link("invite", email=auth.address()),
    "magic link": lambda auth: auth.generate_link("magiclink", email=auth.address()),
}  # fmt: skip


@pytest.fixture
def user(live):
    """A confirmed user that can sign in."""
    email = live.auth.address()
    made = live.auth.create(
        email=email, password=PASSWORD, email_confirm=True, user_metadata={"full_name": "Ada Lovelace"}
    )
    return UUID(made["user"]["id"]), email


@pytest.mark.parametrize("way", SIGN_UPS)
def test_a_new_user_has_a_row(live, way):
    user = SIGN_UPS[way](live.auth)["user"]
    user_id = UUID(user["id"])
    assert live.row(user_id) is not None
    for source in ("email", "phone"):
        if live.maps(source):
            assert (live.mirrored(user_id, source) or "") == (user.get(source) or "")
    if live.maps("user_metadata.full_name") and user.get("user_metadata", {}).get("full_name"):
        assert live.mirrored(user_id, "user_metadata.full_name") == user["user_metadata"]["full_name"]


def test_a_sign_in_and_a_token_refresh_do_not_write_the_row(live, user):
    user_id, email = user
    before = live.row(user_id)
    session = live.auth.sign_in(email=email, password=PASSWORD)
    live.auth.refresh(session["refresh_token"])
    assert live.row(user_id) == before


def test_changes_of_the_user_are_copied(live, user):
    user_id, _ = user
    email = live.auth.address()
    live.auth.update(user_id, email=email, email_confirm=True, user_metadata={"full_name": "Ada King"})
    if live.maps("email"):
        assert live.mirrored(user_id, "email") == email
    if live.maps("user_metadata.full_name"):
        assert live.mirrored(user_id, "user_metadata.full_name") == "Ada King"


def test_a_ban_is_copied_and_removed(live, user):
    user_id, _ = user
    if not live.maps("banned_until"):
        pytest.skip("banned_until is not mapped")
    live.auth.update(user_id, ban_duration="1h")
    assert live.mirrored(user_id, "banned_until") is not None
    live.auth.update(user_id, ban_duration="none")
    assert live.mirrored(user_id, "banned_until") is None


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_a_deletion_is_handled_as_on_delete_says(live, user, soft):
    user_id, email = user
    live.auth.delete(user_id, soft=soft)
    row = live.row(user_id)
    policy = live.settings.on_delete
    if policy == "delete":
        assert row is None
        return
    assert row is not None
    if policy == "anonymize":
        assert email not in {str(value) for value in row.values()}
        assert not any("Lovelace" in str(value) for value in row.values())
    # The e-mail is free again, and another user gets it.
    again = UUID(live.auth.create(email=email, password=PASSWORD, email_confirm=True)["user"]["id"])
    assert again != user_id
    assert live.row(again) is not None


def test_a_lost_row_is_created_again(live, user):
    user_id, _ = user
    before = live.row(user_id)
    live.postgres.execute(
        f'delete from {live.settings.users_table.quoted} where "{live.settings.key}" = %s',
        [user_id],
    )
    assert live.sync.ensure_user_exists(user_id)
    after = live.row(user_id)
    assert {**after, "written_by": None} == {**before, "written_by": None}


def test_test_users_are_in_sync_without_new_failures(live, user):
    user_id, _ = user
    assert user_id not in {failure.user_id for failure in live.sync.failures()}
    assert live.sync.status().missing == 0


def takes_events(live):
    return live.settings.audit.is_own and run(has_log(live.settings), live.postgres)


def recorded(live, event_id):
    return live.postgres.execute(
        f"select actor_id, user_id from {live.settings.audit_table.quoted} where id = %s",
        [event_id],
    ).fetchall()


def test_events_remain_after_their_user_is_deleted(live, user, tmp_path):
    if not takes_events(live):
        pytest.skip("there is no audit log of usersync's")
    user_id, _ = user
    with AuditLog(os.environ["SUPABASE_DB_URL"], spool_dir=tmp_path) as audit:
        event = audit.record("usersync_live.tried", actor_id=user_id)
        assert audit.flush(timeout=30)
    assert recorded(live, event) == [(str(user_id), user_id)]
    live.auth.delete(user_id)
    ((actor, _),) = recorded(live, event)
    assert actor == str(user_id)


def test_status_and_events_work_over_the_data_api(live, user, data_api, tmp_path):
    user_id, _ = user
    with UserSync(data_api) as sync:
        assert sync.user_exists(user_id)
        assert sync.ensure_user_exists(user_id)
        assert sync.status().auth_users > 0
    if not takes_events(live):
        return
    with AuditLog(data_api, spool_dir=tmp_path) as audit:
        event = audit.record("usersync_live.tried", actor_id=user_id)
        assert audit.flush(timeout=30)
    assert recorded(live, event) == [(str(user_id), user_id)]


@pytest.mark.parametrize("who", ["anon", "authenticated"])
@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("record_audit_events", {"events": [{"action": "usersync_live.forged"}]}),
        ("sync_existing_auth_users", {}),
        ("user_sync_status", {}),
        ("ensure_user_exists", {"user_id": "00000000-0000-0000-0000-000000000000"}),
    ],
)
def test_anon_and_authenticated_are_refused(live, user, data_api, who, call, arguments):  # noqa: PLR0917 - fixtures
    public = os.environ.get("SUPABASE_PUBLISHABLE_KEY") or os.environ.get("SUPABASE_ANON_KEY")
    if not public:
        pytest.skip("needs SUPABASE_PUBLISHABLE_KEY or SUPABASE_ANON_KEY")
    headers = {"apikey": public}
    if who == "authenticated":
        session = live.auth.sign_in(email=user[1], password=PASSWORD)
        headers["Authorization"] = f"Bearer {session['access_token']}"
    elif not public.startswith("sb_"):
        headers["Authorization"] = f"Bearer {public}"
    answer = httpx.post(f"{data_api.url}/rest/v1/rpc/{call}", headers=headers, json=arguments, timeout=30)
    assert answer.status_code in {401, 403, 404}
    for table in ("audit_logs", "sync_failures"):
        read = httpx.get(f"{data_api.url}/rest/v1/{table}", headers=headers, timeout=30)
        assert read.status_code in {401, 403, 404} or read.json() == []
    if run(has_log(live.settings), live.postgres):
        assert not live.postgres.execute(
            f"select from {live.settings.audit_table.quoted} where action = 'usersync_live.forged'"
        ).fetchall()


def test_a_publishable_key_is_refused_before_a_request_is_sent(data_api):
    public = os.environ.get("SUPABASE_PUBLISHABLE_KEY") or os.environ.get("SUPABASE_ANON_KEY")
    if not public:
        pytest.skip("needs SUPABASE_PUBLISHABLE_KEY or SUPABASE_ANON_KEY")
    with pytest.raises(UsersyncError):
        type(data_api)(data_api.url, public)


def test_doctor_finds_no_problem(live):
    # The database does not store the order of the columns, so texts are not compared.
    checks = run(doctor.examine(live.settings, order_known=False), live.postgres)
    assert [check for check in checks if check.status == "problem"] == []


def test_report_the_time_of_a_sign_up(live, record_testsuite_property):
    """No limit is asserted, because the time includes the network."""
    began = time.perf_counter()
    live.auth.create(email=live.auth.address(), password=PASSWORD)
    record_testsuite_property("sign_up_seconds", round(time.perf_counter() - began, 3))
