from __future__ import annotations

import uuid

import pytest

from fixtures_project import NAMES
from usersync.config.mapping import quote
from usersync.config.settings import parse_settings
from usersync.schema import delete_plan
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server


@pytest.fixture
def policy(request):
    return getattr(request, "param", "anonymize")


@pytest.fixture
def settings(names, policy):
    return parse_settings(NAMES[names][0] | {"on_delete": policy})


@pytest.fixture
def plan(usersync, project):
    return lambda *words: usersync("delete-plan", *words, "--dsn", project.database.dsn())


def effects(done):
    return {each["table"]: (each["effect"], each["rows"]) for each in done.json["consequences"]}


@pytest.fixture
def user(project):
    return project.auth.sign_up_email("ada@example.com")


def test_a_user_without_references_can_be_deleted(plan, project, user):
    before = project.row(user)
    done = plan("ada@example.com")
    assert done.code == 0
    assert "can be deleted" in done.out
    assert "its personal columns are emptied" in done.out
    assert project.row(user) == before
    assert effects(plan(user, "--json"))["auth.identities"] == ("deleted", 1)
    project.auth.hard_delete(user)
    done = plan(user)
    assert (done.code, "is deleted" in done.out, "TRUNCATE" in done.out) == (0, True, False)


def test_an_unknown_user_is_refused(plan):
    unknown = plan(uuid.uuid4())
    assert (unknown.code, "US401" in unknown.err) == (1, True)
    assert "has this e-mail address" in plan("nobody@example.com").err


@pytest.mark.parametrize(
    ("action", "effect"),
    [
        ("no action", "blocks"),
        ("restrict", "blocks"),
        ("cascade", "deleted"),
        ("set null", "set null"),
        ("set default", "set default"),
    ],
)
def test_the_effect_of_each_foreign_key_action_is_named(plan, project, user, action, effect):
    project.owner.execute(
        f"create table public.notes (owner uuid references auth.users on delete {action});"
        f"insert into public.notes values ('{user}'), ('{user}'), (null)"
    )
    done = plan(user, "--json")
    assert effects(done)["public.notes"] == (effect, 2)
    assert done.code == done.json["blocked"] == (effect == "blocks")
    if effect == "blocks":
        assert "cannot be deleted" in plan(user).out


def test_set_null_on_a_not_null_column_blocks(plan, project, user):
    project.owner.execute(
        "create table public.notes (owner uuid not null references auth.users on delete set null);"
        f"insert into public.notes values ('{user}')"
    )
    done = plan(user, "--json")
    assert effects(done)["public.notes"] == ("blocks", 1)
    assert "owner is NOT NULL" in plan(user).out


def test_cycles_self_references_composite_keys_and_partitions_are_followed(plan, project, user):
    project.owner.execute(f"""
        create table public.teams (id int, part int, owner uuid references auth.users on delete cascade,
            boss int, primary key (id, part)) partition by list (part);
        create table public.teams_1 partition of public.teams for values in (1);
        create table public.teams_2 partition of public.teams for values in (2);
        alter table public.teams add foreign key (boss, part) references public.teams on delete cascade;
        create table public."we""ird %s" (id int primary key, team int, part int,
            foreign key (team, part) references public.teams (id, part) on delete cascade);
        create table public.posts (id int primary key, up int references public."we""ird %s"
            on delete cascade);
        alter table public."we""ird %s" add last_post int references public.posts on delete no action;
        insert into public.teams values (1, 1, '{user}', null), (2, 1, null, 1), (3, 1, null, 2),
            (1, 2, null, null);
        insert into public."we""ird %s" values (1, 3, 1), (2, 1, 2), (3, null, null);
        insert into public.posts values (1, 1), (2, 2), (3, 3);
        update public."we""ird %s" set last_post = 1 where id = 1;
    """)
    done = plan(user, "--json")
    found = {
        (each["table"], each["on_delete"], each["refers_to"]): each for each in done.json["consequences"]
    }
    weird = 'public."we""ird %s"'
    assert found["public.teams", "cascade", "auth.users"]["rows"] == 1
    assert found["public.teams", "cascade", "public.teams"]["rows"] == 2
    assert found[weird, "cascade", "public.teams"]["rows"] == 1
    assert found["public.posts", "cascade", weird]["rows"] == 1
    # The blocking row is deleted too.
    assert found[weird, "no action", "public.posts"]["effect"] == "nothing"
    assert done.code == 0
    project.owner.execute("""update public."we""ird %s" set last_post = 1 where id = 3""")
    assert plan(user).code == 1
    # PostgreSQL deletes the user as planned.
    with pytest.raises(Exception, match="Database error deleting user"):
        project.auth.hard_delete(user)
    project.owner.execute("""update public."we""ird %s" set last_post = null where id = 3""")
    project.auth.hard_delete(user)
    assert project.owner.execute("select count(*) from public.posts").fetchone() == (2,)


def test_unreadable_tables_are_named(project, user):
    """Runs as the auth server's role, which can read few of the application's tables."""
    project.owner.execute(f"""
        create table public.secrets (owner uuid references auth.users on delete restrict);
        create table public.hidden (owner uuid references auth.users on delete restrict);
        revoke all on public.secrets, public.hidden from public;
        grant select on public.hidden to supabase_auth_admin;
        alter table public.hidden enable row level security;
        alter table {project.users} disable row level security;
        grant select on {project.users} to supabase_auth_admin;
        grant usage on schema {quote(project.settings.users_table.schema)} to supabase_auth_admin;
        insert into public.secrets values ('{user}');
        insert into public.hidden values ('{user}');
    """)
    with project.database.connect("supabase_auth_admin") as connection:
        found = run(delete_plan.plan_deletion(project.settings, user), connection)
    reasons = {each.table: (each.effect, each.rows, each.reason) for each in found.consequences}
    assert reasons["public.secrets"] == ("unknown", None, "this role may not read it")
    effect, rows, reason = reasons["public.hidden"]
    assert (effect, rows) == ("unknown", None)
    assert "row-level security" in reason


def test_many_rows_are_counted_up_to_a_limit_and_a_missing_index_is_named(plan, project, user, monkeypatch):
    monkeypatch.setattr(delete_plan, "MOST_ROWS", 5)
    project.owner.execute(
        "create table public.notes (owner uuid references auth.users on delete cascade);"
        f"insert into public.notes select '{user}' from generate_series(1, 20000);"
        "analyze public.notes"
    )
    done = plan(user)
    assert "more than 5" in done.out
    assert "public.notes (owner) has no index" in done.out
    project.owner.execute("create index on public.notes (owner)")
    assert "has no index" not in plan(user).out


@pytest.mark.parametrize("policy", ["delete"], indirect=True)
def test_a_foreign_key_to_the_users_table_blocks_only_the_rows_deletion(plan, project, user):
    project.owner.execute(
        f"create table public.notes (owner uuid references {project.users});"
        f"insert into public.notes values ('{user}')"
    )
    done = plan(user)
    assert done.code == 1
    assert "can be deleted, but the row stays, and a sync failure is recorded" in done.out
    project.auth.hard_delete(user)
    assert project.row(user) is not None
    assert project.failure(user) is not None
    project.owner.execute("delete from public.notes")
    assert plan(user).code == 0
