"""If the application changes the function of a replaced trigger, the change has no effect and is reported."""

from __future__ import annotations

import pytest

from usersync.config.settings import parse_settings
from usersync.schema import installation
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

SETTINGS = parse_settings(
    {
        "users_table": "public.profiles",
        "on_delete": "delete",
        "columns": {"full_name": {"from": "user_metadata.full_name", "owner": "app"}},
    }
)
INSERT = "insert into public.profiles (id, full_name) values (new.id, new.raw_user_meta_data->>'full_name')"


def make(body):
    return (
        "create or replace function public.make() returns trigger language plpgsql security definer as $$ "
        f"begin {body}; return new; end $$;"
    )


@pytest.fixture
def adopted(installer):
    """A project whose trigger usersync has replaced."""
    installer.connection.execute(
        "create table public.profiles (id uuid primary key references auth.users on delete cascade, "
        "full_name text); create table public.credits (id uuid)"
    )
    installer.connection.execute(make(INSERT))
    installer.connection.execute(
        "create trigger on_auth_user_created after insert on auth.users "
        "for each row execute function public.make()"
    )
    run(installation.apply(SETTINGS, adopt=True), installer.connection)
    assert findings(installer) == []
    return installer


def findings(installer):
    found = run(installation.plan(SETTINGS), installer.connection).findings
    return [each for each in found if each.subject == "function public.make()"]


def test_a_second_insert_has_no_effect_and_is_reported(adopted):
    """The application replaces the function make(), and adds a second INSERT."""
    adopted.connection.execute(make(f"{INSERT}; insert into public.credits values (new.id)"))
    (found,) = findings(adopted)
    assert found.code == "D005"
    assert "It inserts into public.credits, and usersync does not" in found.message
    assert "usersync rollback, then usersync apply --adopt" in found.fix
    assert all(line.startswith("--") for line in found.fix.splitlines()), "a pasted fix runs no rollback"


def test_the_reported_fix_works(adopted, auth):
    adopted.connection.execute(make(f"{INSERT}; insert into public.credits values (new.id)"))
    adopted.rollback(SETTINGS)
    run(installation.apply(SETTINGS, adopt=True), adopted.connection)
    user = auth.sign_up_email(data={"full_name": "Ada"})
    assert adopted.connection.execute("select id from public.credits").fetchall() == [(user,)]
    assert adopted.connection.execute("select * from public.profiles").fetchall() == [(user, "Ada")]
    assert findings(adopted) == []


def test_a_change_that_usersync_reproduces_is_no_finding(adopted):
    adopted.connection.execute(make(f"{INSERT} on conflict (id) do nothing"))
    assert findings(adopted) == []


def test_a_trigger_created_again_makes_its_function_effective(adopted, superuser):
    adopted.connection.execute(make(f"{INSERT}; insert into public.credits values (new.id)"))
    adopted.connection.execute(
        "create or replace trigger on_auth_user_created after insert on auth.users "
        "for each row execute function public.make()"
    )
    assert findings(adopted) == []
    superuser.execute("alter table auth.users disable trigger on_auth_user_created")
    (found,) = findings(adopted)
    assert "the change has no effect" in found.message


def test_another_trigger_of_the_function_does_not_hide_the_finding(adopted):
    adopted.connection.execute(make(f"{INSERT}; insert into public.credits values (new.id)"))
    adopted.connection.execute(
        "create trigger zz_deleted after delete on auth.users for each row execute function public.make()"
    )
    (found,) = findings(adopted)
    assert "its trigger on_auth_user_created" in found.message
