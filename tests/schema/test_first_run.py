"""Findings about the first run: rows that it creates, values that it writes, triggers that fire."""

from __future__ import annotations

import pytest

from audit_settings import with_audit_log
from usersync.config.settings import parse_settings

pytestmark = pytest.mark.newest_server

SETTINGS = with_audit_log(
    {"users_table": "public.profiles", "on_delete": "keep", "columns": {"email": "email"}}
)
PROFILES = "create table public.profiles (id uuid primary key, email text);"


def finding_of_first_run(installer):
    (found,) = [each for each in installer.plan(SETTINGS).findings if "first run" in each.message]
    return found


def test_rows_that_fire_a_trigger_are_reported(installer, auth):
    """An AFTER INSERT trigger on profiles writes to an outbox, and five users have no row."""
    installer.connection.execute(
        PROFILES + "create table public.outbox (mail text);"
        "create function public.send_mail() returns trigger language plpgsql as "
        "'begin insert into public.outbox values (new.email); return new; end';"
        "create trigger welcome after insert on public.profiles "
        "for each row execute function public.send_mail();"
        "create trigger touch before insert on public.profiles "
        "for each row execute function public.send_mail()"
    )
    for _ in range(5):
        auth.sign_up_email()
    found = finding_of_first_run(installer)
    assert "the first run would try to create 5 rows" in found.message
    assert "each new row fires welcome (public.send_mail())" in found.message
    assert "touch" not in found.message
    assert found.fix.splitlines()[-2:] == [
        "usersync apply --no-sync",
        "usersync sync --create-missing --max 10",
    ]


def test_rows_that_fire_no_trigger_are_reported_without_a_fix(installer, auth):
    installer.connection.execute(PROFILES)
    auth.sign_up_email()
    found = finding_of_first_run(installer)
    assert found.message == "in public.profiles, the first run would try to create 1 row"
    assert found.fix is None


def test_after_the_installation_the_finding_says_next_run(installer, auth):
    installer.connection.execute(PROFILES)
    installer.apply(SETTINGS)
    auth.sign_up_email()
    installer.connection.execute("delete from public.profiles")
    changed = with_audit_log(
        {"users_table": "public.profiles", "columns": {"email": {"from": "email", "owner": "app"}}}
    )
    (found,) = [each for each in installer.plan(changed).findings if each.code == "D017"]
    assert found.message == "in public.profiles, the next run would try to create 1 row"


def test_empty_values_are_filled_and_others_overwritten(installer, auth):
    """Values that are null are filled, and not counted as overwritten."""
    installer.connection.execute(PROFILES)
    for email in (None, None, "edited@example.com"):
        user = auth.sign_up_email()
        installer.connection.execute("insert into public.profiles values (%s, %s)", [user, email])
    message = finding_of_first_run(installer).message
    assert "fill empty values in 2 (email in 2), overwrite values in 1 (email in 1)" in message


@pytest.mark.parametrize("policy", ["keep", "anonymize"])
def test_plan_and_status_count_the_same_orphaned_rows(installer, policy):
    """A row whose user does not exist is orphaned, unless on_delete is keep."""
    columns = {"email": "email"}
    settings = with_audit_log({"users_table": "public.profiles", "on_delete": policy, "columns": columns})
    installer.connection.execute(
        PROFILES + "insert into public.profiles values (gen_random_uuid(), 'gone@example.com')"
    )
    planned = [
        each.message
        for each in installer.plan(settings).findings
        if "auth server does not have" in each.message
    ]
    installer.apply(settings)
    status = installer.connection.execute("select public.user_sync_status() ->> 'orphaned'").fetchone()
    assert (len(planned), status) == ((0, ("0",)) if policy == "keep" else (1, ("1",)))


def test_values_that_the_first_run_overwrites_are_counted(installer, auth):
    user_id = auth.sign_up_email("ada@example.com", data={"full_name": "Ada"})
    installer.connection.execute("create table public.users (id uuid primary key, full_name text)")
    installer.connection.execute("insert into public.users values (%s, 'Countess')", [user_id])
    planned = installer.plan(parse_settings({"columns": {"full_name": "user_metadata.full_name"}}))
    assert any("overwrite values in 1 (full_name in 1)" in each.message for each in planned.findings)
