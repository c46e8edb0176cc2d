"""D012 to D016: the application's own table, and what hangs on it."""

from __future__ import annotations

import dataclasses

import pytest

from usersync.config.mapping import quote
from usersync.schema import installation
from usersync.schema.delete_plan import plan_deletion
from usersync.testing import GoTrueError, broken_users_table
from usersync.transports.run import run

HOSTILE = '"od""d; column"'


def change(clinic, text):
    clinic.project.owner.execute(text.format(users=clinic.project.users, key='"' + clinic.settings.key + '"'))


def test_d012_no_table(clinic):
    change(clinic, "drop table {users} cascade")
    found = clinic.check_all()
    assert found["D013"].status == found["D016"].status == "skipped"
    assert "no table" in clinic.cures("D012").detail


def test_d012_a_column_that_refuses_null(clinic):
    change(clinic, f"alter table {{users}} add column {HOSTILE} text not null")
    check = clinic.cures("D012")
    assert "no user can get a row" in check.detail
    clinic.project.auth.sign_up_email("ada@example.com")
    assert clinic.sick() == {}


def test_d012_a_mapped_column_that_is_gone(clinic):
    change(clinic, "alter table {users} drop column " + clinic.project.column("full_name"))
    assert "which is mapped" in clinic.cures("D012").detail


def test_d012_a_key_that_is_not_unique(clinic):
    name = clinic.project.owner.execute(
        "select quote_ident(conname) from pg_constraint where contype = 'p' and conrelid = to_regclass(%s)",
        [clinic.project.users],
    ).fetchone()[0]
    change(clinic, f"alter table {{users}} drop constraint {name} cascade")
    assert "A unique key forbids a second row of a user" in clinic.check("D012").fix
    assert "no primary key or unique" in clinic.cures("D012").detail


@pytest.mark.newest_server
def test_d012_what_only_a_person_can_mend(clinic):
    """A fix that is an advice can be pasted without harm, and changes nothing."""
    column = clinic.project.column("banned_until")
    change(clinic, f"alter table {{users}} alter column {column} type date")
    check = clinic.check("D012")
    assert check.status == "problem"
    assert all(line.startswith("--") for line in check.fix.splitlines())


REFERENCE = 'alter table {users} add constraint "a\'uth" foreign key ({key}) references auth.users (id) '


@pytest.mark.parametrize(
    ("rule", "status"),
    [
        ("", "problem"),
        ("on delete restrict", "problem"),
        ("on delete set null", "problem"),
        ("on delete cascade", "warning"),
    ],
)
def test_d013_a_foreign_key_to_the_auth_server(clinic, rule, status):
    change(clinic, REFERENCE + rule)
    clinic.cures("D013", status)


@pytest.mark.newest_server
def test_d013_blocks_what_it_says_it_blocks(clinic):
    user_id = clinic.project.auth.sign_up_email("ada@example.com")
    change(clinic, REFERENCE)
    with pytest.raises(Exception, match="deleting user"):
        clinic.project.auth.hard_delete(user_id)
    clinic.cures("D013")
    clinic.project.auth.hard_delete(user_id)


@pytest.mark.newest_server
@pytest.mark.parametrize("policy", ["anonymize", "delete"])
def test_d013_gives_the_key_the_action_that_the_settings_ask_for(clinic, policy):
    """A row that outlives its user cannot refer to the user; one that goes with the user can."""
    clinic.settings = dataclasses.replace(clinic.settings, on_delete=policy)
    change(clinic, REFERENCE)
    clinic.cures("D013")
    (kept,) = clinic.project.owner.execute(
        "select count(*) from pg_constraint where conrelid = to_regclass(%s) and confdeltype = 'c'",
        [clinic.project.users],
    ).fetchone()
    assert kept == (policy == "delete")


CREATED_BY = "alter table {users} add column created_by uuid constraint maker references auth.users (id) "


@pytest.mark.newest_server
def test_d013_a_row_that_names_who_created_it(clinic):
    """Doctor, delete-plan and the auth server say the same of ``created_by`` without ON DELETE."""
    project = clinic.project
    change(clinic, CREATED_BY)
    maker, made = (project.auth.sign_up_email(f"{name}@example.com") for name in ("ada", "bob"))
    project.owner.execute(
        f"update {project.users} set created_by = %s where {quote(project.settings.key)} = %s", [maker, made]
    )
    blocked = {
        each: run(plan_deletion(clinic.settings, each), project.owner).blocked for each in (maker, made)
    }
    assert blocked == {maker: True, made: False}
    check = clinic.check("D013")
    assert "a user whom a row of" in check.detail
    assert "names in created_by" in check.detail
    with pytest.raises(GoTrueError, match="deleting user"):
        project.auth.hard_delete(maker)
    clinic.cures("D013", "warning")
    assert "maker" in keys_of(project)
    project.auth.hard_delete(made)
    project.auth.hard_delete(maker)


def keys_of(project):
    rows = project.owner.execute(
        "select conname from pg_constraint where contype = 'f' and conrelid = to_regclass(%s)",
        [project.users],
    )
    return {row[0] for row in rows}


@pytest.mark.newest_server
def test_d013_is_what_plan_says(clinic):
    change(clinic, REFERENCE)
    planned = run(installation.plan(clinic.settings), clinic.project.owner)
    assert [each.message for each in planned.findings if each.code == "D013"] == [clinic.check("D013").detail]


@pytest.mark.newest_server
def test_d016_a_key_behind_one_that_cascades(clinic):
    clinic.settings = dataclasses.replace(clinic.settings, on_delete="delete")
    change(
        clinic,
        """
        create table public.orders
            (id int primary key, buyer uuid references {users} ({key}) on delete cascade);
        create table public.bills
            (id int, of_order int constraint behind references public.orders on delete restrict);
        """,
    )
    assert "whose rows are deleted with those of" in clinic.cures("D016").detail


DEFERRED = {
    "unique": 'add constraint "lat\'er" unique ({column}) deferrable initially deferred',
    "foreign key": 'add constraint "lat\'er" foreign key ({key}) references auth.users (id) '
    "on delete cascade deferrable initially deferred",
}


@pytest.mark.parametrize("kind", DEFERRED)
def test_d014_a_deferred_constraint(clinic, kind):
    column = clinic.project.column("email")
    change(clinic, "alter table {users} " + DEFERRED[kind].replace("{column}", column))
    check = clinic.cures("D014", "warning")
    assert "checked at COMMIT" in check.detail


@pytest.mark.newest_server
def test_d014_a_deferred_trigger(clinic):
    change(
        clinic,
        """
        create function public.hook() returns trigger language plpgsql set search_path = '' as
            'begin return null; end';
        create constraint trigger "lat'er" after insert on {users} deferrable initially deferred
            for each row execute function public.hook();
        """,
    )
    clinic.cures("D014", "warning")
    assert "lat'er (public.hook())" in clinic.check("D015").detail


def test_d015_a_trigger_that_relies_on_a_search_path(clinic):
    """supa_audit's is one: what it calls is not in pg_catalog."""
    change(
        clinic,
        """
        create table public.seen (at timestamptz);
        create function public.hook() returns trigger language plpgsql as
            'begin insert into seen values (now()); return new; end';
        create trigger "a hook" before insert on {users} for each row execute function public.hook();
        """,
    )
    broken = clinic.project.auth.sign_up_email("ada@example.com")
    assert clinic.project.failure(broken).sqlstate == "42P01"
    check = clinic.cures("D015", "warning")
    assert "a hook" in check.detail
    assert clinic.project.client.retry().errors == 0
    assert clinic.check("D015").detail == "a hook (public.hook())"


REFERRING = """
    create table public."or ders" (
        id int primary key,
        buyer uuid not null constraint "b'uyer" references {users} ({key}) on update cascade,
        seller uuid constraint seller references {users} ({key}) on delete restrict,
        clerk uuid references {users} ({key}) on delete cascade
    )
"""


def test_d016_a_foreign_key_that_blocks_a_deletion(clinic):
    change(clinic, REFERRING)
    assert clinic.check("D016").status == "ok"
    clinic.settings = dataclasses.replace(clinic.settings, on_delete="delete")
    check = clinic.cures("D016")
    assert "b'uyer" in check.detail
    assert "seller" in check.detail
    assert "clerk" not in check.detail
    rules = clinic.project.owner.execute(
        "select conname, confdeltype, confupdtype, convalidated from pg_constraint "
        "where conrelid = 'public.\"or ders\"'::regclass and contype = 'f' order by 1"
    ).fetchall()
    assert ("b'uyer", "n", "c", True) in rules
    assert ("seller", "n", "a", True) in rules


@pytest.mark.newest_server
def test_d016_says_when_it_is_the_auth_server_that_fails(clinic):
    change(clinic, REFERRING)
    clinic.settings = dataclasses.replace(clinic.settings, on_delete="delete")
    assert "the row stays" in clinic.check("D016").detail
    change(
        clinic,
        "alter table {users} add constraint home foreign key ({key}) references auth.users on delete cascade",
    )
    user_id = clinic.project.auth.sign_up_email("ada@example.com")
    clinic.project.owner.execute('insert into public."or ders" (id, buyer) values (1, %s)', [user_id])
    with pytest.raises(GoTrueError, match="Database error deleting user"):
        clinic.project.auth.hard_delete(user_id)
    assert "Database error deleting user" in clinic.cures("D016", "warning").detail
    clinic.project.auth.hard_delete(user_id)


@pytest.mark.newest_server
def test_d016_the_fix_lets_the_deletion_through(clinic):
    clinic.settings = dataclasses.replace(clinic.settings, on_delete="delete")
    run(installation.apply(clinic.settings), clinic.project.owner)
    change(clinic, REFERRING)
    user_id = clinic.project.auth.sign_up_email("ada@example.com")
    clinic.project.owner.execute('insert into public."or ders" (id, buyer) values (1, %s)', [user_id])
    clinic.project.auth.hard_delete(user_id)
    assert clinic.check("D018").status == "problem"
    clinic.cures("D016")
    clinic.cures("D018")
    assert clinic.project.row(user_id) is None


@pytest.mark.newest_server
@pytest.mark.parametrize(
    ("how", "codes"),
    [
        ("missing", {"D012"}),
        ("column_renamed", {"D012"}),
        ("not_null", {"D012"}),
        ("bad_type", {"D012"}),
        ("deferred_unique_email", {"D014"}),
    ],
)
def test_what_breaks_the_table_is_seen_before_anybody_signs_up(clinic, how, codes):
    table, column = clinic.settings.users_table, clinic.project.columns["email"]
    with broken_users_table(clinic.project.database.dsn(), how, table=table, column=column):
        assert codes <= set(clinic.sick())
    assert clinic.sick() == {}


@pytest.mark.newest_server
@pytest.mark.parametrize(
    ("body", "status"), [("new.team := 'x'", "ok"), ("new := public.with_team(new)", "warning")]
)
def test_d012_a_column_that_a_trigger_fills(clinic, body, status):
    """What a BEFORE trigger sets is filled; of one whose text does not show it, doctor says "unless"."""
    change(
        clinic,
        "alter table {users} add column team text not null default 'x';"
        "alter table {users} alter column team drop default;"
        "create function public.fill() returns trigger language plpgsql set search_path = '' as "
        f"'begin {body.replace(chr(39), chr(39) * 2)}; return new; end';"
        "create trigger fill before insert on {users} for each row execute function public.fill()",
    )
    check = clinic.check("D012")
    assert check.status == status
    assert (status == "ok") or "unless a trigger fills it (fill)" in check.detail
    assert "drop not null" not in (check.fix or "")


@pytest.mark.newest_server
def test_d012_lets_no_column_of_the_key_be_null(clinic):
    change(
        clinic,
        "alter table {users} add column tenant int not null default 1;"
        "alter table {users} alter column tenant drop default",
    )
    assert "drop not null" in clinic.check("D012").fix
