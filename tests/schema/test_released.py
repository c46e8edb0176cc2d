"""Upgrades: apply and the script upgrade a database of an earlier release.

``released/VERSION.sql`` is what ``usersync sql`` of that release printed with its default settings.
"""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from audit_settings import with_audit_log
from usersync.schema import installation
from usersync.sql.script import install_script
from usersync.transports.run import run

RELEASED = sorted((Path(__file__).parent / "released").glob("*.sql"))

TRIGGERS = """
    select tgname, tgtype, tgnewtable, tgoldtable from pg_trigger
    where tgrelid = 'auth.users'::regclass and not tgisinternal order by 1
"""
CURRENT = [
    ("on_auth_user_created", 5, "new_users", None),
    ("on_auth_user_deleted", 9, None, "old_users"),
    ("on_auth_user_updated", 17, None, None),
]


@pytest.fixture(params=RELEASED, ids=[path.stem for path in RELEASED])
def released(request, installer):
    """Run the release's script, and return its text."""
    text = request.param.read_text(encoding="utf-8")
    installer.connection.execute(text)
    return text


@pytest.mark.slow
@pytest.mark.parametrize("how", ["apply", "script"])
def test_an_installation_is_upgraded(installer, auth, released, how):
    assert released
    before = auth.sign_up_email("before@example.com")
    if how == "apply":
        installer.apply(with_audit_log())
    else:
        installer.connection.execute("\n".join(install_script(with_audit_log())))
    assert installer.connection.execute(TRIGGERS).fetchall() == CURRENT
    assert installer.plan(with_audit_log()).changes == ()
    after = [auth.sign_up_email("after@example.com"), *auth.import_users(20)]
    auth.change_email(before, "changed@example.com")
    auth.hard_delete(after[0])
    rows = dict(installer.connection.execute("select id, email from public.users").fetchall())
    assert rows[before] == "changed@example.com"
    assert set(rows) == {before, *after}
    assert rows[after[0]] is None
    assert installer.connection.execute("select * from usersync.sync_failures").fetchall() == []


def rename_like_0_1_0(installer, released):
    """0.1.0 renamed a trigger that had one of its names and that it could not replace."""
    installer.connection.execute("select usersync.remove_trigger('on_auth_user_created')")
    installer.connection.execute("""
        create table public.teams (owner uuid);
        create function public.handle_new_user() returns trigger language plpgsql security definer
        set search_path = '' as $$ begin
            insert into public.users (id, email) values (new.id, new.email);
            insert into public.teams values (new.id);
            return new;
        end $$;
        create trigger on_auth_user_created after insert on auth.users
            for each row execute function public.handle_new_user()
    """)
    (renamed_trigger,) = installer.connection.execute(
        "select pg_get_triggerdef(oid) from pg_trigger where tgname = 'on_auth_user_created'"
    ).fetchone()
    installer.connection.execute(
        "select usersync.adopt_trigger('on_auth_user_created', 'before_usersync_on_auth_user_created')"
    )
    _, _, own_trigger = released.rpartition("create or replace trigger on_auth_user_created")
    installer.connection.execute(
        f"create or replace trigger on_auth_user_created{own_trigger.partition(';')[0]}"
    )
    return renamed_trigger


DEFINITION = "select pg_get_triggerdef(oid) from pg_trigger where tgname = 'on_auth_user_created'"


@pytest.mark.slow
def test_a_renamed_trigger_gets_its_original_name(installer, auth, released):
    renamed_trigger = rename_like_0_1_0(installer, released)
    auth.sign_up_email("before@example.com")
    installer.apply(with_audit_log())
    assert installer.connection.execute(DEFINITION).fetchone() == (renamed_trigger,)
    names = [row[0] for row in installer.connection.execute(TRIGGERS).fetchall()]
    assert names == [
        "on_auth_user_created",
        "on_auth_user_deleted",
        "on_auth_user_updated",
        "on_auth_user_zz_created",
    ]
    assert installer.plan(with_audit_log()).changes == ()
    auth.sign_up_email("after@example.com")
    for table in ("users", "teams"):
        assert installer.connection.execute(f"select count(*) from public.{table}").fetchone() == (2,)
    run(installation.rollback(with_audit_log()), installer.connection)
    assert installer.connection.execute(DEFINITION).fetchone() == (renamed_trigger,)
    later = auth.sign_up_email("later@example.com")
    assert installer.connection.execute("select 1 from public.teams where owner = %s", [later]).fetchone()


def test_the_script_raises_if_an_old_release_renamed_a_trigger(installer, released):
    rename_like_0_1_0(installer, released)
    with pytest.raises(psycopg.errors.RaiseException, match="renamed a trigger"):
        installer.connection.execute("\n".join(install_script(with_audit_log())))
