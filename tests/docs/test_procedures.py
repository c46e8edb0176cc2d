"""Runs docs/procedures.md as it is written: see procedure_pages.py."""

from __future__ import annotations

import inspect
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
from procedure_pages import CLOSED, DOCS, blocks, privileges, record, row, sections_of, test_name

from fixtures_catalog import read_catalog
from usersync import AuditLog, UserSync
from usersync.testing import GoTrue, GoTrueError
from waiting import until_spools_are_free

pytestmark = pytest.mark.newest_server

PAGE = (DOCS / "procedures.md").read_text("utf-8")
SECTIONS = sections_of(PAGE)


def id_of(postgres, email):
    return postgres.execute("select id from auth.users where email = %s", [email]).fetchone()[0]


def test_every_block_belongs_to_a_procedure_with_a_test():
    tests = [globals()[test_name(heading)] for heading in SECTIONS]
    assert all("procedure" in inspect.signature(test).parameters for test in tests)
    assert blocks(PAGE.split("\n## ")[0]) == []
    fences = re.findall(r"^ *(?:```|~~~)", PAGE, re.MULTILINE)
    assert len(fences) == 2 * sum(len(blocks(text)) for text in SECTIONS.values())


def test_create_a_user(procedure, postgres, sync):
    procedure.run()
    assert sync.user_exists(id_of(postgres, "ada@example.com"))


def test_invite_a_user(procedure, auth, postgres):
    procedure.run()
    user = auth.confirm(id_of(postgres, "grace@example.com"))
    accepted = "select email_confirmed_at is not null from public.users where id = %s"
    assert postgres.execute(accepted, [user]).fetchone() == (True,)


def test_change_an_e_mail_address(procedure, auth):
    procedure.names["<user-id>"] = auth.sign_up_email("ada@example.com")
    procedure.run()


def test_ban_a_user(procedure, auth):
    user = procedure.names["<user-id>"] = auth.sign_up_email("ada@example.com")
    procedure.run(2)
    with pytest.raises(GoTrueError, match="banned"):
        auth.sign_in(user)
    procedure.run()
    auth.sign_in(user)


def test_delete_a_user(procedure, auth, postgres):
    user = procedure.names["<user-id>"] = auth.sign_up_email("ada@example.com")
    postgres.execute("insert into public.orders (user_id, item) values (%s, 'bolt')", [user])
    procedure.run()
    assert auth.sign_up_again("ada@example.com") != user


def test_erase_a_user(procedure, auth, postgres, database):
    user = procedure.names["<user-id>"] = auth.sign_up_email("ada@example.com")
    record(database, user, ip="192.0.2.1", metadata={"email": "ada@example.com"})
    auth.hard_delete(user)
    procedure.run()
    (event,) = postgres.execute(
        "select to_jsonb(log)::text from public.audit_logs as log where action = 'order.placed'"
    ).fetchone()
    assert "192.0.2.1" not in event
    assert "ada@example.com" not in event


def test_merge_two_accounts(procedure, auth, postgres, database):
    old, new = auth.sign_up_email("ada@example.com"), auth.sign_up_oauth("github", "ada@work.example.com")
    procedure.names |= {"<old-id>": old, "<new-id>": new}
    postgres.execute(
        "insert into public.orders (user_id, item) values (%(old)s, 'a'), (%(old)s, 'b'), (%(new)s, 'c')",
        {"old": old, "new": new},
    )
    postgres.execute(
        "insert into public.favourites values (%(old)s, 'bolt'), (%(new)s, 'bolt'), (%(old)s, 'nut')",
        {"old": old, "new": new},
    )
    record(database, old)
    procedure.run()
    items = (
        "select item from public.orders where user_id = %s union all select product from public.favourites"
    )
    assert {item for (item,) in postgres.execute(items, [new])} == {"a", "b", "c", "bolt", "nut"}
    log = "select action, actor_id, user_id from public.audit_logs order by occurred_at"
    assert postgres.execute(log).fetchall() == [("order.placed", str(old), old), ("user.merged", None, new)]
    assert row(postgres, new) == ("ada@work.example.com", None)
    assert row(postgres, old)[0] is None


@pytest.fixture
def restoring(shell):
    """The file that docs/backup.md shows, in the test's directory."""
    (text,) = [
        text
        for _, text in blocks((DOCS / "backup.md").read_text("utf-8"))
        if text.startswith("-- restore.sql")
    ]
    Path("restore.sql").write_text(text, "utf-8")


@pytest.mark.slow
@pytest.mark.usefixtures("dumps", "restoring")
@pytest.mark.parametrize("regime", ["old", "new"])
def test_move_to_another_project(procedure, auth, postgres, other_project, monkeypatch):
    postgres.execute(CLOSED)
    granted = privileges(procedure.database)
    with other_project.connect() as owner:
        owner.execute("alter default privileges revoke execute on functions from public")
    users = [auth.sign_up_email("ada@example.com"), auth.sign_up_oauth(email="grace@example.com")]
    postgres.execute("insert into public.orders (user_id, item) values (%s, 'bolt')", [users[0]])
    monkeypatch.delenv("SUPABASE_DB_URL")
    monkeypatch.setenv("OLD_DB_URL", procedure.database.dsn())
    monkeypatch.setenv("NEW_DB_URL", other_project.dsn())
    procedure.run()
    assert privileges(other_project) == granted
    with other_project.connect() as owner, UserSync(other_project.dsn()) as sync:
        assert owner.execute("select user_id, item from public.orders").fetchall() == [(users[0], "bolt")]
        assert row(owner, users[1]) == ("grace@example.com", None)
        with GoTrue(other_project.dsn("supabase_auth_admin")) as auth_there:
            auth_there.sign_in(users[0])
            assert sync.user_exists(auth_there.sign_up_email("later@example.com"))


@pytest.fixture
def paused(cluster, database):
    """Refuse new sign-ups until the end of the block."""

    @contextmanager
    def paused():
        allow = f"alter database {database.name} allow_connections"
        cluster.maintenance.execute(f"{allow} false")
        try:
            yield
        finally:
            cluster.maintenance.execute(f"{allow} true")

    return paused


@pytest.mark.slow
def test_resume_a_paused_project(procedure, auth, postgres, superuser, paused):
    seen = auth.sign_up_email("seen@example.com")
    superuser.execute("""
        drop trigger on_auth_user_created on auth.users;
        drop trigger on_auth_user_updated on auth.users;
        drop trigger on_auth_user_deleted on auth.users;
    """)
    parts = "select inhrelid::regclass from pg_inherits where inhparent = 'public.audit_logs'::regclass"
    for (part,) in postgres.execute(parts).fetchall():
        if "default" not in part:
            postgres.execute(f"drop table {part}")
    unseen = auth.sign_up_email("unseen@example.com")
    with paused():
        log = AuditLog(procedure.database.dsn())
        log.record("order.placed", actor_id=seen)
        log.close(timeout=0.1)
        until_spools_are_free()
    procedure.run()
    assert row(postgres, unseen)
    assert postgres.execute("select actor_id from public.audit_logs").fetchall() == [(str(seen),)]


@pytest.mark.slow
def test_upgrade_the_auth_server(procedure, auth, sync):
    auth.sign_up_email()
    auth.connection.execute("""
        alter table auth.users add column passkey_only boolean not null default false;
        alter table auth.users alter column phone type character varying(30);
    """)
    procedure.run()
    assert sync.user_exists(auth.sign_up_email())
    auth.connection.execute("alter table auth.users rename column phone to telephone")
    auth.connection.execute("insert into auth.users (id) values (gen_random_uuid())")
    assert [each.sqlstate for each in sync.failures()] == ["42703"]
    code, out = procedure.usersync("usersync doctor")
    assert (code, "auth.users has no column phone" in out) == (1, True)


HAND_WRITTEN_TRIGGER = """
    create table public.users (id uuid primary key, email text);
    alter table public.users enable row level security;
    create function public.handle_new_user() returns trigger language plpgsql security definer as $$
    begin
        insert into public.users (id, email) values (new.id, new.email);
        return new;
    end $$;
    create trigger on_auth_user_created after insert on auth.users
        for each row execute function public.handle_new_user();
"""


@pytest.fixture
def bare(cluster):
    """A project with a hand-written trigger, without usersync."""
    database = cluster.create()
    with database.connect() as owner:
        owner.execute(HAND_WRITTEN_TRIGGER)
    yield database
    cluster.drop(database)


@pytest.mark.slow
def test_replace_a_hand_written_trigger(procedure, bare, monkeypatch):
    monkeypatch.setenv("SUPABASE_DB_URL", bare.dsn())
    admin = bare.dsn("supabase_auth_admin")
    with bare.connect("supabase_admin") as superuser, GoTrue(admin) as auth:
        before = read_catalog(superuser)
        user = auth.sign_up_email("ada@example.com")
        procedure.run(1)
        auth.change_email(user, "new@example.com")
        # The address is unchanged: the hand-written trigger inserts it once and does not update it.
        assert superuser.execute("select email from public.users").fetchall() == [("ada@example.com",)]
        procedure.run()
        after = {key: body for key, body in read_catalog(superuser).items() if "audit_logs" not in key[1]}
        assert after == before


def test_pause_usersync(procedure, auth, postgres):
    auth.sign_up_email("before@example.com")
    procedure.run(1)
    user = auth.sign_up_email("during@example.com")
    procedure.run(1)
    assert row(postgres, user) is None
    procedure.run()
    assert row(postgres, user) == ("during@example.com", None)


def test_every_morning(procedure, auth):
    auth.sign_up_email()
    procedure.run()


AUDITING = """
    create function public.audit_sign_up() returns trigger language plpgsql as $$
    begin
        raise exception 'no table of sign-ups';
    end $$;
    create trigger audit_sign_up after insert on auth.users
        for each row execute function public.audit_sign_up();
"""


@pytest.mark.slow
def test_incident_runbook(procedure, auth, postgres, sync):
    postgres.execute("alter table public.users add column team text not null default 'a'")
    postgres.execute("alter table public.users alter column team drop default")
    user = auth.sign_up_email("ada@example.com")
    procedure.run(1)
    postgres.execute("alter table public.users alter column team set default 'a'")
    procedure.run(1)
    assert sync.user_exists(user)
    postgres.execute(AUDITING)
    with pytest.raises(GoTrueError, match="Database error saving new user"):
        auth.sign_up_email()
    procedure.run(1)
    postgres.execute("drop function public.audit_sign_up() cascade")
    procedure.run(1)
    unseen = auth.sign_up_email()
    assert not row(postgres, unseen)
    procedure.run()
    assert row(postgres, unseen)
