"""``apply --adopt`` replaces hand-written triggers that only copy, and rollback restores them."""

from __future__ import annotations

import threading

import pytest

from usersync.config.settings import parse_settings
from usersync.errors import ConflictError
from usersync.schema import installation
from usersync.testing import GoTrue, GoTrueError
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

SETTINGS = parse_settings({"columns": {"email": "email", "full_name": "user_metadata.full_name"}})

TABLE = """
    create table public.users (
        id uuid primary key, email text, full_name text, created_at timestamptz default now());
    create table public.teams (owner uuid);
"""

#: Functions with each property that rollback must restore.
HANDWRITTEN = """
    create function public.handle_new_user() returns trigger language plpgsql security definer
    set search_path = '' as $$
    begin
      insert into public.users (id, email, full_name, created_at)
      values (new.id, new.email, new.raw_user_meta_data->>'full_name', now());
      return new;
    end $$;
    comment on function public.handle_new_user() is 'It''s pasted';
    revoke all on function public.handle_new_user() from public, anon;
    grant execute on function public.handle_new_user() to authenticated with grant option;
    create function public.follow() returns trigger language plpgsql security definer as $$
    begin update public.users set email = new.email where id = new.id; return new; end $$;
"""

TRIGGERS = """
    create trigger on_auth_user_created after insert on auth.users
      for each row execute function public.handle_new_user();
    create trigger "Follow the e-mail" after update of email on auth.users
      for each row when (old.email is distinct from new.email) execute function public.follow();
"""

MORE = HANDWRITTEN.replace(
    "return new;\n    end", "insert into public.teams values (new.id); return new;\n    end", 1
)


def run_sql(installer, *scripts):
    for script in scripts:
        installer.connection.execute(script)


@pytest.fixture
def plain(installer, catalog):
    """A project with a hand-written trigger, and its catalog."""
    run_sql(installer, TABLE, HANDWRITTEN, TRIGGERS)
    return catalog()


def test_a_copying_trigger_is_replaced_and_restored_exactly(installer, catalog, auth, plain):
    old = auth.sign_up_email("old@example.com", data={"full_name": "Old"})
    applied = schema_of(installer, adopt=True)
    assert [f"{each.kind} {each.subject}" for each in applied.changes if "handle" in each.subject][-1] == (
        "drop trigger on_auth_user_created of public.handle_new_user()"
    )
    triggers = installer.connection.execute(
        "select tgname, tgfoid::regproc::text from pg_trigger where tgrelid = 'auth.users'::regclass "
        "and not tgisinternal order by 1"
    ).fetchall()
    assert triggers == [
        ("Follow the e-mail", "usersync.handle_updated_user"),
        ("on_auth_user_created", "usersync.handle_new_user"),
        ("on_auth_user_zz_deleted", "usersync.handle_deleted_user"),
    ]
    user = auth.sign_up_email("ada@example.com", data={"full_name": "Ada"})
    auth.change_email(old, "new@example.com")
    assert rows_of_users(installer) == {(user, "ada@example.com", "Ada"), (old, "new@example.com", "Old")}
    assert installer.plan(SETTINGS).changes == ()
    installer.rollback(SETTINGS)
    assert catalog() == plain
    later = auth.sign_up_email("later@example.com", data={"full_name": "Later"})
    auth.change_email(later, "still@example.com")
    assert (later, "still@example.com", "Later") in rows_of_users(installer)


def schema_of(installer, *, adopt, settings=SETTINGS):
    return run(installation.apply(settings, adopt=adopt), installer.connection)


def rows_of_users(installer):
    return set(installer.connection.execute("select id, email, full_name from public.users").fetchall())


def test_without_adopt_nothing_is_replaced_and_the_error_names_the_trigger(installer, catalog, plain):
    planned = installer.plan(SETTINGS)
    (error,) = planned.errors
    assert "usersync apply --adopt replaces it" in error.hint
    (warning,) = [each for each in planned.findings if "Follow the e-mail" in each.message]
    assert warning.message.endswith("An error in it fails the change of the user")
    with pytest.raises(ConflictError):
        installer.apply(SETTINGS)
    assert catalog() == plain
    assert run(installation.plan(SETTINGS, adopt=True), installer.connection).errors == ()
    assert catalog() == plain


@pytest.mark.parametrize("name", ["on_auth_user_created", "mine"])
def test_a_trigger_with_other_effects_stays_and_works(installer, catalog, auth, name):
    run_sql(installer, TABLE, MORE, TRIGGERS.replace("on_auth_user_created", name))
    before = catalog()
    notes = [each for each in schema_of(installer, adopt=True).findings if "handle_new_user" in each.message]
    assert "inserts into public.teams" in notes[0].hint
    user = auth.sign_up_email("ada@example.com", data={"full_name": "Ada"})
    assert rows_of_users(installer) == {(user, "ada@example.com", "Ada")}
    assert installer.connection.execute("select * from public.teams").fetchall() == [(user,)]
    assert catalog()[("trigger", f"{name} on auth.users")] == before[("trigger", f"{name} on auth.users")]
    assert installer.plan(SETTINGS).changes == ()
    installer.rollback(SETTINGS)
    assert catalog() == before


NOT_COPIES = {
    "a column that is not mapped": HANDWRITTEN.replace("created_at)", "nickname)").replace(
        "now());", "new.phone);"
    ),
    "a column that is computed": HANDWRITTEN.replace("new.email, new", "split_part(new.email, '@', 1), new"),
    "a function in SQL": HANDWRITTEN.replace("return new;\n", "perform pg_sleep(0); return new;\n", 1),
    "another table": HANDWRITTEN.replace("into public.users", "into public.teams_of"),
}


@pytest.mark.parametrize("how", NOT_COPIES)
def test_an_unmapped_column_prevents_replacement(installer, how):
    run_sql(installer, TABLE, NOT_COPIES[how], TRIGGERS)
    planned = run(installation.plan(SETTINGS, adopt=True), installer.connection)
    assert not [each for each in planned.changes if "on_auth_user_created of" in each.subject]
    assert [
        each for each in planned.changes if each.subject.startswith("trigger on_auth_user_zz_created")
    ] or (how == "another table")


def test_a_when_clause_prevents_replacement(installer):
    run_sql(installer, TABLE, HANDWRITTEN)
    run_sql(
        installer,
        "create trigger mine after insert on auth.users for each row when (new.email like '%@corp.com') "
        "execute function public.handle_new_user()",
    )
    notes = run(installation.plan(SETTINGS, adopt=True), installer.connection).findings
    (hint,) = [
        each.hint
        for each in notes
        if "fires only under a condition that usersync does not know" in (each.hint or "")
    ]
    assert "who does not meet its condition may have no row today, and gets one from usersync" in hint


def test_a_disabled_trigger_stays_unchanged(installer, catalog, superuser, auth):
    """Only the owner of the table could restore it."""
    run_sql(installer, TABLE, HANDWRITTEN, TRIGGERS)
    superuser.execute("alter table auth.users disable trigger on_auth_user_created")
    before = catalog()
    schema_of(installer, adopt=True)
    user = auth.sign_up_email("ada@example.com", data={"full_name": "Ada"})
    assert rows_of_users(installer) == {(user, "ada@example.com", "Ada")}
    installer.rollback(SETTINGS)
    assert catalog() == before


def test_a_deferred_constraint_trigger_prevents_the_installation(installer, catalog):
    """Only the owner of the table could remove it, and at COMMIT it inserts the row again."""
    run_sql(
        installer,
        TABLE,
        HANDWRITTEN,
        "create constraint trigger on_auth_user_created after insert on auth.users "
        "deferrable initially deferred for each row execute function public.handle_new_user()",
    )
    before = catalog()
    (error,) = run(installation.plan(SETTINGS, adopt=True), installer.connection).errors
    assert "inserts the same row without ON CONFLICT" in error.message
    with pytest.raises(ConflictError):
        schema_of(installer, adopt=True)
    assert catalog() == before


DEFERRED = "constraint trigger mine after insert on auth.users deferrable initially deferred for each row"


@pytest.mark.parametrize(
    "trigger",
    ["trigger zz after insert on auth.users for each statement", DEFERRED],
    ids=["late", "deferred"],
)
def test_a_trigger_that_would_insert_the_row_again_prevents_the_installation(installer, catalog, trigger):
    run_sql(installer, TABLE, HANDWRITTEN, f"create {trigger} execute function public.handle_new_user()")
    before = catalog()
    (error,) = installer.plan(SETTINGS).errors
    assert "inserts the same row without ON CONFLICT, which fails" in error.message
    with pytest.raises(ConflictError):
        installer.apply(SETTINGS)
    assert catalog() == before


def test_a_trigger_that_inserts_the_row_again_fails_the_sign_up(installer, auth):
    """Shows that the finding is right. The triggers are created after the installation."""
    statement_level = HANDWRITTEN.replace("values (new", "select (new").replace(
        "now());", "now() from new_users as new;"
    )
    statement_level = statement_level.replace("select (new.id", "select new.id")
    run_sql(installer, TABLE, HANDWRITTEN)
    installer.apply(SETTINGS)
    run_sql(installer, f"create {DEFERRED} execute function public.handle_new_user()")
    user = auth.sign_up_email("ada@example.com")
    # usersync makes a deferred trigger fire before it writes the row.
    assert rows_of_users(installer) == {(user, "ada@example.com", None)}
    run_sql(
        installer,
        "drop function public.handle_new_user() cascade",
        statement_level.partition(";\n    create")[0],
    )
    run_sql(
        installer,
        "create trigger zz after insert on auth.users referencing new table as new_users for each statement "
        "execute function public.handle_new_user()",
    )
    with pytest.raises(GoTrueError):
        auth.sign_up_email("bea@example.com")


def test_rollback_keeps_later_changes_of_the_application(installer, catalog, auth, plain):
    schema_of(installer, adopt=True)
    run_sql(
        installer,
        "drop function public.handle_new_user() cascade",
        "create or replace function public.follow() returns trigger language plpgsql as "
        "'begin return new; end'",
        'create or replace trigger "Follow the e-mail" before update on auth.users for each row '
        "execute function public.follow()",
    )
    follow_trigger = catalog()[("trigger", '"Follow the e-mail" on auth.users')]
    installer.rollback(SETTINGS)
    after = catalog()
    assert after[("trigger", '"Follow the e-mail" on auth.users')] == follow_trigger
    gone = {key for key in plain if "handle_new_user" in plain[key] or "handle_new_user" in key[1]}
    assert {key: after.get(key) for key in gone} == {key: plain[key] for key in gone}


SEARCH_PATH_TRIGGERS = """
    create schema extensions_of_ours;
    create table public.seen (id uuid, at timestamptz);
    create function public.noted(id uuid) returns void language sql as
      $$ insert into seen values (id, now()) $$;
    create function public.watch() returns trigger language plpgsql security definer as $$
    begin
      perform public.noted(new.id);  -- this function relies on the search_path too
      return new;
    end $$;
    create function public.touch() returns trigger language plpgsql as
      $$ begin new.created_at := coalesce(new.created_at, now()); return new; end $$;
    create function public.pinned() returns trigger language plpgsql set search_path = public as
      $$ begin perform noted(new.id); return new; end $$;
    create trigger a_watch after insert on public.users for each row execute function public.watch();
    create trigger b_touch before insert or update on public.users
      for each row execute function public.touch();
    create trigger c_pinned after insert on public.users for each row execute function public.pinned();
"""


@pytest.mark.slow
def test_a_function_gets_a_search_path_and_rollback_resets_it(installer, catalog, auth):
    run_sql(installer, TABLE, SEARCH_PATH_TRIGGERS)
    before = catalog()
    installer.apply(SETTINGS)
    broken = auth.sign_up_email("ada@example.com")
    failures = "select user_id, sqlstate from usersync.sync_failures"
    assert installer.connection.execute(failures).fetchall() == [(broken, "42P01")]
    planned = run(installation.plan(SETTINGS, adopt=True), installer.connection)
    (change,) = planned.changes
    assert (change.subject, change.kind) == ("search_path of public.watch()", "alter")
    assert "seen" in change.reason
    schema_of(installer, adopt=True)
    installer.connection.execute("select public.sync_existing_auth_users()")
    assert installer.connection.execute(failures).fetchall() == []
    assert installer.connection.execute("select id from public.seen").fetchall() == [(broken,), (broken,)]
    installer.rollback(SETTINGS)
    assert catalog() == before


def test_a_function_of_another_role_is_not_altered(installer, superuser):
    run_sql(installer, TABLE, SEARCH_PATH_TRIGGERS)
    superuser.execute("alter function public.watch() owner to supabase_admin")
    assert run(installation.plan(SETTINGS, adopt=True), installer.connection).errors == ()
    schema_of(installer, adopt=True)
    assert run(installation.plan(SETTINGS, adopt=True), installer.connection).changes == ()


@pytest.mark.slow
def test_sign_ups_during_adoption_all_get_a_row(installer, database, plain):
    """One transaction replaces the trigger, so each sign-up fires either the old or the new one."""
    done = threading.Event()
    signed_up = []

    def sign_up():
        with GoTrue(database.dsn("supabase_auth_admin")) as auth:
            while not done.is_set():
                signed_up.append(auth.sign_up_email())

    thread = threading.Thread(target=sign_up)
    thread.start()
    try:
        for _ in range(2):
            schema_of(installer, adopt=True)
            installer.rollback(SETTINGS)
    finally:
        done.set()
        thread.join()
    assert signed_up
    with_row = {user for user, *_ in rows_of_users(installer)}
    assert set(signed_up) == with_row
