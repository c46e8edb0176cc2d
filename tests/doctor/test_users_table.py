"""D012 to D016: the users table, its constraints and triggers."""

from __future__ import annotations

import dataclasses

import pytest

from usersync.config.mapping import quote
from usersync.schema import installation
from usersync.schema.delete_plan import plan_deletion
from usersync.testing import GoTrueError, broken_users_table
from usersync.transports.run import run

QUOTED_NAME = '"od""d; column"'


def change(checked, text):
    checked.project.owner.execute(
        text.format(users=checked.project.users, key='"' + checked.settings.key + '"')
    )


def test_d012_reports_a_missing_table(checked):
    change(checked, "drop table {users} cascade")
    found = checked.check_all()
    assert found["D013"].status == found["D016"].status == "skipped"
    assert "no table" in checked.is_fixed_by_pasting("D012").detail


def test_d012_reports_a_not_null_column(checked):
    change(checked, f"alter table {{users}} add column {QUOTED_NAME} text not null")
    check = checked.is_fixed_by_pasting("D012")
    assert "no user can get a row" in check.detail
    checked.project.auth.sign_up_email("ada@example.com")
    assert checked.failing() == {}


def test_d012_reports_a_dropped_mapped_column(checked):
    change(checked, "alter table {users} drop column " + checked.project.column("full_name"))
    assert "which is mapped" in checked.is_fixed_by_pasting("D012").detail


def test_d012_reports_a_key_that_is_not_unique(checked):
    name = checked.project.owner.execute(
        "select quote_ident(conname) from pg_constraint where contype = 'p' and conrelid = to_regclass(%s)",
        [checked.project.users],
    ).fetchone()[0]
    change(checked, f"alter table {{users}} drop constraint {name} cascade")
    assert "A unique key forbids a second row of a user" in checked.check("D012").fix
    assert "no primary key or unique" in checked.is_fixed_by_pasting("D012").detail


@pytest.mark.newest_server
def test_d012_prints_advice_for_a_person_as_comments(checked):
    column = checked.project.column("banned_until")
    change(checked, f"alter table {{users}} alter column {column} type date")
    check = checked.check("D012")
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
def test_d013_reports_a_foreign_key_to_auth_users(checked, rule, status):
    change(checked, REFERENCE + rule)
    checked.is_fixed_by_pasting("D013", status)


@pytest.mark.newest_server
def test_d013_reports_a_key_that_fails_deletions_until_it_is_fixed(checked):
    user_id = checked.project.auth.sign_up_email("ada@example.com")
    change(checked, REFERENCE)
    with pytest.raises(Exception, match="deleting user"):
        checked.project.auth.hard_delete(user_id)
    checked.is_fixed_by_pasting("D013")
    checked.project.auth.hard_delete(user_id)


@pytest.mark.newest_server
@pytest.mark.parametrize("policy", ["anonymize", "delete"])
def test_d013_proposes_the_foreign_key_action_that_fits_on_delete(checked, policy):
    """A row that stays after its user's deletion cannot reference the user. A deleted row can."""
    checked.settings = dataclasses.replace(checked.settings, on_delete=policy)
    change(checked, REFERENCE)
    checked.is_fixed_by_pasting("D013")
    (kept,) = checked.project.owner.execute(
        "select count(*) from pg_constraint where conrelid = to_regclass(%s) and confdeltype = 'c'",
        [checked.project.users],
    ).fetchone()
    assert kept == (policy == "delete")


CREATED_BY = "alter table {users} add column created_by uuid constraint maker references auth.users (id) "


@pytest.mark.newest_server
def test_d013_reports_a_created_by_column(checked):
    """Doctor, delete-plan and the auth server agree on a ``created_by`` without ON DELETE."""
    project = checked.project
    change(checked, CREATED_BY)
    maker, made = (project.auth.sign_up_email(f"{name}@example.com") for name in ("ada", "bob"))
    project.owner.execute(
        f"update {project.users} set created_by = %s where {quote(project.settings.key)} = %s", [maker, made]
    )
    blocked = {
        each: run(plan_deletion(checked.settings, each), project.owner).blocked for each in (maker, made)
    }
    assert blocked == {maker: True, made: False}
    check = checked.check("D013")
    assert "a user whom a row of" in check.detail
    assert "names in created_by" in check.detail
    with pytest.raises(GoTrueError, match="deleting user"):
        project.auth.hard_delete(maker)
    checked.is_fixed_by_pasting("D013", "warning")
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
def test_d013_has_the_same_message_in_doctor_and_plan(checked):
    change(checked, REFERENCE)
    planned = run(installation.plan(checked.settings), checked.project.owner)
    assert [each.message for each in planned.findings if each.code == "D013"] == [
        checked.check("D013").detail
    ]


@pytest.mark.newest_server
def test_d016_reports_a_key_behind_a_cascading_one(checked):
    checked.settings = dataclasses.replace(checked.settings, on_delete="delete")
    change(
        checked,
        """
        create table public.orders
            (id int primary key, buyer uuid references {users} ({key}) on delete cascade);
        create table public.bills
            (id int, of_order int constraint behind references public.orders on delete restrict);
        """,
    )
    assert "whose rows are deleted with those of" in checked.is_fixed_by_pasting("D016").detail


DEFERRED = {
    "unique": 'add constraint "lat\'er" unique ({column}) deferrable initially deferred',
    "foreign key": 'add constraint "lat\'er" foreign key ({key}) references auth.users (id) '
    "on delete cascade deferrable initially deferred",
}


@pytest.mark.parametrize("kind", DEFERRED)
def test_d014_reports_a_deferred_constraint(checked, kind):
    column = checked.project.column("email")
    change(checked, "alter table {users} " + DEFERRED[kind].replace("{column}", column))
    check = checked.is_fixed_by_pasting("D014", "warning")
    assert "checked at COMMIT" in check.detail


@pytest.mark.newest_server
def test_d014_reports_a_deferred_trigger(checked):
    change(
        checked,
        """
        create function public.hook() returns trigger language plpgsql set search_path = '' as
            'begin return null; end';
        create constraint trigger "lat'er" after insert on {users} deferrable initially deferred
            for each row execute function public.hook();
        """,
    )
    checked.is_fixed_by_pasting("D014", "warning")
    assert "lat'er (public.hook())" in checked.check("D015").detail


def test_d015_reports_a_trigger_that_requires_a_search_path(checked):
    """Like supa_audit's trigger, which calls functions outside pg_catalog."""
    change(
        checked,
        """
        create table public.seen (at timestamptz);
        create function public.hook() returns trigger language plpgsql as
            'begin insert into seen values (now()); return new; end';
        create trigger "a hook" before insert on {users} for each row execute function public.hook();
        """,
    )
    broken = checked.project.auth.sign_up_email("ada@example.com")
    assert checked.project.failure(broken).sqlstate == "42P01"
    check = checked.is_fixed_by_pasting("D015", "warning")
    assert "a hook" in check.detail
    assert checked.project.client.retry().errors == 0
    assert checked.check("D015").detail == "a hook (public.hook())"


REFERRING = """
    create table public."or ders" (
        id int primary key,
        buyer uuid not null constraint "b'uyer" references {users} ({key}) on update cascade,
        seller uuid constraint seller references {users} ({key}) on delete restrict,
        clerk uuid references {users} ({key}) on delete cascade
    )
"""


def test_d016_reports_foreign_keys_that_block_a_deletion(checked):
    change(checked, REFERRING)
    assert checked.check("D016").status == "ok"
    checked.settings = dataclasses.replace(checked.settings, on_delete="delete")
    check = checked.is_fixed_by_pasting("D016")
    assert "b'uyer" in check.detail
    assert "seller" in check.detail
    assert "clerk" not in check.detail
    rules = checked.project.owner.execute(
        "select conname, confdeltype, confupdtype, convalidated from pg_constraint "
        "where conrelid = 'public.\"or ders\"'::regclass and contype = 'f' order by 1"
    ).fetchall()
    assert ("b'uyer", "n", "c", True) in rules
    assert ("seller", "n", "a", True) in rules


@pytest.mark.newest_server
def test_d016_says_whether_the_auth_servers_deletion_fails(checked):
    change(checked, REFERRING)
    checked.settings = dataclasses.replace(checked.settings, on_delete="delete")
    assert "the row stays" in checked.check("D016").detail
    change(
        checked,
        "alter table {users} add constraint home foreign key ({key}) references auth.users on delete cascade",
    )
    user_id = checked.project.auth.sign_up_email("ada@example.com")
    checked.project.owner.execute('insert into public."or ders" (id, buyer) values (1, %s)', [user_id])
    with pytest.raises(GoTrueError, match="Database error deleting user"):
        checked.project.auth.hard_delete(user_id)
    assert "Database error deleting user" in checked.is_fixed_by_pasting("D016", "warning").detail
    checked.project.auth.hard_delete(user_id)


@pytest.mark.newest_server
def test_d016_after_the_fix_the_deletion_succeeds(checked):
    checked.settings = dataclasses.replace(checked.settings, on_delete="delete")
    run(installation.apply(checked.settings), checked.project.owner)
    change(checked, REFERRING)
    user_id = checked.project.auth.sign_up_email("ada@example.com")
    checked.project.owner.execute('insert into public."or ders" (id, buyer) values (1, %s)', [user_id])
    checked.project.auth.hard_delete(user_id)
    assert checked.check("D018").status == "problem"
    checked.is_fixed_by_pasting("D016")
    checked.is_fixed_by_pasting("D018")
    assert checked.project.row(user_id) is None


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
def test_a_broken_table_is_reported_before_a_sign_up(checked, how, codes):
    table, column = checked.settings.users_table, checked.project.columns["email"]
    with broken_users_table(checked.project.database.dsn(), how, table=table, column=column):
        assert codes <= set(checked.failing())
    assert checked.failing() == {}


@pytest.mark.newest_server
@pytest.mark.parametrize(
    ("body", "status"), [("new.team := 'x'", "ok"), ("new := public.with_team(new)", "warning")]
)
def test_d012_is_ok_or_a_warning_if_a_trigger_fills_the_column(checked, body, status):
    """A BEFORE trigger may set the column. If its text does not show that, doctor says "unless"."""
    change(
        checked,
        "alter table {users} add column team text not null default 'x';"
        "alter table {users} alter column team drop default;"
        "create function public.fill() returns trigger language plpgsql set search_path = '' as "
        f"'begin {body.replace(chr(39), chr(39) * 2)}; return new; end';"
        "create trigger fill before insert on {users} for each row execute function public.fill()",
    )
    check = checked.check("D012")
    assert check.status == status
    assert (status == "ok") or "unless a trigger fills it (fill)" in check.detail
    assert "drop not null" not in (check.fix or "")


@pytest.mark.newest_server
def test_d012_proposes_to_drop_not_null_for_a_column_outside_the_key(checked):
    change(
        checked,
        "alter table {users} add column tenant int not null default 1;"
        "alter table {users} alter column tenant drop default",
    )
    assert "drop not null" in checked.check("D012").fix
