"""D024 to D028: an audit log that usersync created, and an audit table of the application."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from audit_settings import with_audit_log
from fixtures_project import clone_installed
from usersync.doctor import choose, examine
from usersync.schema import installation
from usersync.testing import GoTrue, GoTrueError
from usersync.transports.run import run

DAMAGE = """
    alter table public.audit_logs disable trigger keep_audit_logs;
    alter table public.audit_logs drop constraint audit_logs_user_id_fkey;
    drop policy "Only the service role reads the log" on public.audit_logs;
    alter table public.audit_logs disable row level security;
    grant select, delete on public.audit_logs to anon;
"""


def record(owner, *events):
    answer = owner.execute("select public.record_audit_events(%s)", [json.dumps(events)]).fetchone()
    return answer[0]


def event(**fields):
    return {"id": str(uuid4()), "action": "stock.adjusted", "occurred_at": "now"} | fields


@pytest.mark.slow
@pytest.mark.newest_server
def test_several_kinds_of_damage_to_the_log_are_reported_and_fixed(checked):
    owner = checked.project.owner
    record(owner, event(user_id=str(checked.project.auth.sign_up_email("ada@example.com"))))
    owner.execute(DAMAGE)
    owner.execute(f"delete from {checked.project.users}")
    planned = run(installation.plan(checked.settings), owner).changes
    assert [(each.kind, each.subject) for each in planned] == [("alter", "table public.audit_logs")]
    for part in ("append-only", "closed to anon", "row-level security"):
        assert part in planned[0].reason
    checked.is_fixed_by_pasting("D024")
    assert run(installation.plan(checked.settings), owner).changes == ()
    owner.execute("grant select (action) on public.audit_logs to public")
    assert "public has been granted select" in checked.is_fixed_by_pasting("D026").detail
    assert "user_id has no foreign key" in checked.is_fixed_by_pasting("D025").detail
    # The event of the deleted user lost its user_id and nothing else.
    assert owner.execute("select user_id, actor_type from public.audit_logs").fetchall() == [(None, "system")]
    checked.project.client.reconcile()
    assert checked.failing() == {}
    with checked.project.database.connect("service_role") as service:
        assert service.execute("select count(*) from public.audit_logs").fetchone() == (1,)


REPLACED = """
    create or replace trigger keep_all_audit_logs before truncate on usersync.audit_logs_default
    for each statement execute function usersync.handle_new_user()
"""
NEVER = """
    create or replace trigger keep_audit_logs before update or delete on public.audit_logs
    for each row when (false) execute function usersync.keep_audit_logs()
"""


@pytest.mark.parametrize(
    "damage",
    [
        "alter table usersync.audit_logs_default disable trigger keep_all_audit_logs",
        "alter table usersync.audit_logs_default disable trigger keep_audit_logs",
        "drop trigger keep_all_audit_logs on usersync.audit_logs_default",
        REPLACED,
        NEVER,
    ],
)
@pytest.mark.newest_server
def test_d024_reports_a_log_whose_events_can_be_changed(checked, damage):
    checked.project.owner.execute(damage)
    assert "can be changed" in checked.is_fixed_by_pasting("D024").detail


@pytest.mark.newest_server
def test_d025_reports_dropped_indexes(checked):
    owner = checked.project.owner
    indexes = "select indexrelid::regclass::text from pg_index where indrelid = 'public.audit_logs'::regclass"
    names = [row[0] for row in owner.execute(f"{indexes} and not indisprimary").fetchall()]
    assert len(names) == 9
    for name in names:
        owner.execute(f"drop index {name}")
    check = checked.is_fixed_by_pasting("D025", "warning")
    assert check.detail.count("has no index") == 9
    assert len(owner.execute(f"{indexes} and not indisprimary").fetchall()) == 9


def test_d025_accepts_the_foreign_key_to_a_renamed_users_table(checked):
    """The foreign key is right once users_table has the new name."""
    checked.project.owner.execute(f"alter table {checked.project.users} rename to people")
    assert checked.check("D025").status == "ok"
    assert "people has the columns of the missing table" in checked.check("D012").detail


def test_d025_reports_a_dropped_log(checked):
    checked.project.owner.execute("drop table public.audit_logs cascade")
    assert "no event can be stored" in checked.is_fixed_by_pasting("D025").detail
    assert checked.failing() == {}


@pytest.mark.newest_server
def test_d026_reports_granted_and_revoked_privileges(checked):
    owner = checked.project.owner
    owner.execute(
        "grant insert on public.audit_logs to service_role; "
        "grant trigger on public.audit_logs to authenticated"
    )
    detail = checked.is_fixed_by_pasting("D026").detail
    assert "authenticated has been granted trigger" in detail
    assert "service_role has been granted insert" in detail
    owner.execute("revoke select on public.audit_logs from service_role")
    assert "lets service_role read" in checked.is_fixed_by_pasting("D026").detail


@pytest.mark.newest_server
def test_d027_reports_months_without_a_partition(checked):
    owner = checked.project.owner
    for (name,) in owner.execute(
        "select inhrelid::regclass::text from pg_inherits where inhparent = 'public.audit_logs'::regclass "
        "and inhrelid::regclass::text ~ '_20..'"
    ).fetchall():
        owner.execute(f"drop table {name}")
    assert checked.is_fixed_by_pasting("D027", "warning").detail.count("has no partition") == 2
    assert checked.failing() == {}


@pytest.mark.newest_server
def test_d027_reports_a_detached_partition(checked):
    owner = checked.project.owner
    record(owner, event())
    (name,) = owner.execute("select tableoid::regclass::text from public.audit_logs").fetchone()
    owner.execute(f"alter table public.audit_logs detach partition {name}")
    assert "is not attached" in checked.is_fixed_by_pasting("D027").detail
    assert owner.execute("select count(*) from public.audit_logs").fetchone() == (1,)


@pytest.mark.newest_server
def test_d027_reports_a_month_with_too_many_events_to_move_automatically(checked):
    owner = checked.project.owner
    (month,) = owner.execute("select to_char(now() at time zone 'UTC', 'YYYY_MM')").fetchone()
    owner.execute(f"drop table usersync.audit_logs_{month}")
    owner.execute(
        "insert into public.audit_logs (id, occurred_at, action, outcome, actor_type, source) "
        "select gen_random_uuid(), now(), 'a', 'succeeded', 'system', 'app' from generate_series(1, 10001)"
    )
    record(owner, event())
    check = checked.is_fixed_by_pasting("D027", "warning")
    assert "make_audit_partition(" in check.fix
    rows = f"select count(*) from usersync.audit_logs_{month}"
    assert owner.execute(rows).fetchone() == (10_002,)


@pytest.mark.newest_server
def test_d027_reports_a_large_default_partition(checked, monkeypatch):
    for name, events in {"_MANY": 2000, "_FEW": 1000}.items():
        monkeypatch.setattr(f"usersync.doctor.checks.d027_audit_partitions.{name}", events)
    owner = checked.project.owner
    owner.execute(
        "insert into public.audit_logs (id, occurred_at, action, outcome, actor_type, source) "
        "select gen_random_uuid(), '2020-05-05', 'a', 'succeeded', 'system', 'app' "
        "from generate_series(1, 2001)"
    )
    assert "more than 2,000 events" in checked.is_fixed_by_pasting("D027", "warning").detail
    assert owner.execute("select count(*) from usersync.audit_logs_2020_05").fetchone() == (2001,)


@pytest.mark.newest_server
def test_d027_reports_a_missing_default_partition(checked):
    checked.project.owner.execute("drop table usersync.audit_logs_default")
    assert "the default partition is missing" in checked.is_fixed_by_pasting("D027").detail


@pytest.mark.newest_server
def test_d028_reports_rejected_events_by_reason(checked):
    owner = checked.project.owner
    record(owner, event(outcome="perhaps"), event(action=""), event(action=""))
    check = checked.check("D028")
    assert check.status == "problem"
    assert "2 events: SQLSTATE 23514: action: value for domain" in check.detail
    assert "outcome: value for domain" in check.detail
    assert "usersync audit rejects --retry" in check.fix
    owner.execute("delete from usersync.audit_rejects")
    assert checked.check("D028").status == "ok"


ADOPTED = with_audit_log(
    {
        "columns": {"email": "email"},
        "audit": {
            "table": "public.history",
            "columns": {"id": "event_id", "occurred_at": "at", "action": "verb", "metadata": "more"},
        },
    }
)

HISTORY = """
    create table public.users (id uuid primary key, email text);
    create table public.history (
        n bigint generated always as identity primary key, event_id uuid unique, at timestamptz not null,
        verb varchar(40) not null, more jsonb not null,
        who uuid default null constraint holding references public.users (id)
    );
"""


@pytest.fixture
def adopted(database, postgres):
    """An application with its own audit table, created under Supabase's older default privileges."""
    postgres.execute(HISTORY)
    run(installation.apply(ADOPTED), postgres)

    def check(code):
        (found,) = run(examine(ADOPTED, choose([code])), postgres)
        return found

    return check


@pytest.mark.newest_server
def test_d026_reports_an_adopted_table_that_anon_may_access(adopted, postgres, database):
    note = next(
        each for each in run(installation.plan(ADOPTED), postgres).findings if "anon may" in each.message
    )
    assert "anon may select, insert, update, delete; authenticated may" in note.message
    check = adopted("D026")
    assert (check.status, check.fix) == ("problem", note.hint)
    postgres.execute("alter table public.history enable row level security")
    assert adopted("D026").status == "ok"
    postgres.execute("create policy wide on public.history for select to anon using (true)")
    check = adopted("D026")
    assert check.status == "warning"
    assert "anon may select; only its policies protect" in check.detail
    postgres.execute(check.fix)
    assert adopted("D026").status == "ok"


@pytest.mark.newest_server
def test_d025_reports_an_adopted_table_that_cannot_store_all_events(adopted, postgres):
    """No other check reports the application's table."""
    check = adopted("D025")
    assert check.status == "warning"
    assert "holding of public.history prevents users who have events from being deleted" in check.detail
    assert "verb (40)" in check.detail
    postgres.execute("\n".join(line for line in check.fix.splitlines() if not line.startswith("--")))
    assert adopted("D025").status == "ok"
    assert "history" not in adopted("D012").detail
    assert [adopted(code).status for code in ("D024", "D027")] == ["skipped", "skipped"]
    postgres.execute("alter table public.history drop column verb")
    assert adopted("D025").status == "problem"


EMPTIES_KEY = """
    create table public.people (
        number bigint generated always as identity primary key,
        auth_id uuid unique {default} references auth.users on delete {action},
        email text
    )
"""
#: The foreign key of a log that an earlier release created.
BEFORE_ON_UPDATE = """
    alter table public.audit_logs drop constraint audit_logs_user_id_fkey,
    add constraint audit_logs_user_id_fkey
    foreign key (user_id) references public.people (auth_id) on delete set null
"""


@pytest.mark.newest_server
@pytest.mark.parametrize(
    ("action", "default"), [("set null", ""), ("set default", "default null")], ids=["null", "default"]
)
def test_a_foreign_key_that_empties_the_key_does_not_fail_a_deletion(cluster, action, default):
    settings = with_audit_log(
        {"users_table": "public.people", "key": "auth_id", "columns": {"email": "email"}}
    )
    database = clone_installed(cluster, settings, EMPTIES_KEY.format(action=action, default=default))
    with database.connect() as owner, GoTrue(database.dsn("supabase_auth_admin")) as auth:
        owner.execute("select usersync.request_user_events('test', true, false)")
        auth.hard_delete(auth.sign_up_email("ada@example.com"))

        owner.execute(BEFORE_ON_UPDATE)
        user = auth.sign_up_email("bob@example.com")
        with pytest.raises(GoTrueError, match="Database error deleting user"):
            auth.hard_delete(user)
        (check,) = run(examine(settings, choose(["D025"])), owner)
        assert "people_auth_id_fkey empties public.people.auth_id" in check.detail
        owner.execute(check.fix)
        (check,) = run(examine(settings, choose(["D025"])), owner)
        assert check.status == "ok"
        auth.hard_delete(user)

        assert owner.execute(
            "select action, count(*), count(user_id), count(actor_id) from public.audit_logs "
            "group by 1 order by 1"
        ).fetchall() == [("user.created", 2, 0, 2), ("user.deleted", 2, 0, 2)]
        assert owner.execute("select count(*), count(auth_id) from public.people").fetchall() == [(2, 0)]
    cluster.drop(database)
