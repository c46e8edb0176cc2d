"""D013 and D016: a foreign key that blocks a deletion with or without usersync is a warning."""

from __future__ import annotations

import dataclasses
from uuid import uuid4

import pytest

from audit_settings import with_audit_log
from usersync.doctor import choose, examine
from usersync.schema import installation
from usersync.testing import GoTrue, GoTrueError
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

SETTINGS = with_audit_log({"columns": {"email": "email"}, "on_delete": "delete"})

USERS = "create table public.users (id uuid primary key, email text);"

REFERENCE = "alter table public.users add constraint home foreign key (id) references auth.users;"

ORDERS = "create table public.orders (buyer uuid not null constraint buyer references public.users);"

CREATING = """
    create function public.create_row() returns trigger language plpgsql security definer as
        'begin insert into public.users (id, email) values (new.id, new.email); return new; end';
    create trigger on_auth_user_created after insert on auth.users
        for each row execute function public.create_row();
"""

DELETING = """
    create table public.farewells (id uuid);
    create function public.delete_row() returns trigger language plpgsql security definer as
        'begin delete from public.users where id = old.id; insert into public.farewells values (old.id);
        return old; end';
    create trigger farewell after delete on auth.users
        for each row execute function public.delete_row();
"""

ORDERING = """
    create function public.order_gift() returns trigger language plpgsql security definer as
        'begin insert into public.orders values (new.id); return new; end';
    create trigger gift after insert on public.users for each row execute function public.order_gift();
"""


@pytest.fixture
def owner(database):
    with database.connect("postgres") as connection:
        yield connection


@pytest.fixture
def auth(database):
    with database.connect("supabase_auth_admin") as connection:
        yield GoTrue(connection)


def check(owner, code, settings=SETTINGS):
    (found,) = run(examine(settings, choose([code])), owner)
    return found


def deletion_fails(auth):
    user_id = auth.sign_up_email(f"{uuid4()}@example.com")
    try:
        auth.hard_delete(user_id)
    except GoTrueError:
        return True
    return False


@pytest.mark.slow
def test_d013_warns_if_a_replaced_trigger_created_the_row(owner, auth):
    owner.execute(USERS + REFERENCE + CREATING)
    run(installation.apply(SETTINGS, adopt=True), owner)
    found = check(owner, "D013")
    assert found.status == "warning"
    assert "This also happens without usersync" in found.detail
    assert deletion_fails(auth)
    run(installation.rollback(SETTINGS, drop_audit_log=True), owner)
    assert deletion_fails(auth)


def test_d013_warns_before_the_installation(owner):
    owner.execute(USERS + REFERENCE + CREATING)
    assert check(owner, "D013").status == "warning"


def test_d013_warns_if_the_application_creates_the_rows(owner):
    owner.execute(USERS + REFERENCE)
    settings = dataclasses.replace(SETTINGS, creates_rows=False)
    run(installation.apply(settings), owner)
    assert check(owner, "D013", settings).status == "warning"


def test_d013_is_a_problem_if_only_usersync_creates_the_row(owner, auth):
    owner.execute(USERS + REFERENCE)
    assert not deletion_fails(auth)
    run(installation.apply(SETTINGS), owner)
    assert deletion_fails(auth)
    found = check(owner, "D013")
    assert found.status == "problem"
    assert "without usersync" not in found.detail


def test_d016_warns_if_a_trigger_that_stays_deletes_the_row(owner, auth):
    owner.execute(USERS + ORDERS + DELETING + ORDERING)
    run(installation.apply(SETTINGS), owner)
    found = check(owner, "D016")
    assert found.status == "warning"
    assert "since the trigger farewell deletes the row" in found.detail
    assert deletion_fails(auth)


@pytest.mark.slow
def test_d016_warns_if_d013_blocks_the_deletion_first(owner, auth):
    owner.execute(USERS + REFERENCE + CREATING + ORDERS + ORDERING)
    run(installation.apply(SETTINGS, adopt=True), owner)
    found = check(owner, "D016")
    assert found.status == "warning"
    assert "the foreign key home blocks it" in found.detail
    assert deletion_fails(auth)
    # The fix of D013 alone changes the reason, not the level.
    owner.execute(check(owner, "D013").fix)
    assert check(owner, "D016").status == "warning"
    owner.execute(check(owner, "D016").fix)
    assert check(owner, "D016").status == "ok"
    assert not deletion_fails(auth)


def test_d016_is_a_problem_if_usersync_deletes_the_row(owner, auth):
    owner.execute(USERS + ORDERS + CREATING + ORDERING)
    run(installation.apply(SETTINGS, adopt=True), owner)
    assert not deletion_fails(auth)
    assert check(owner, "D016").status == "problem"
