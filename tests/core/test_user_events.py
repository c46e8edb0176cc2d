"""The events user.created, user.updated and user.deleted, recorded in the transaction of the change."""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from psycopg.rows import dict_row

from usersync.errors import DatabaseError, UserNotFoundError
from usersync.schema import installation
from usersync.transports.run import run

pytestmark = [pytest.mark.newest_server, pytest.mark.settings(audit={"enabled": True})]

#: Detects a hang, and is not a performance target.
HANG_S = 60
LOG = "public.audit_logs"


def request_events(project, *, wanted=True, by="test", values=False):
    project.owner.execute("select usersync.request_user_events(%s, %s, %s)", [by, wanted, values])


@pytest.fixture
def recorded(project):
    """Request user events. The function returns those of all users or of one, the oldest first."""
    request_events(project)

    def read(user=None) -> list[dict[str, Any]]:
        with project.owner.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(
                f"select * from {LOG} where entity_type = 'user'"
                " and (%(id)s::text is null or entity_id = %(id)s::text) order by occurred_at",
                {"id": user and str(user)},
            ).fetchall()

    return read


def summarize(events):
    """The action of each event, with its changed columns or the way of the deletion."""
    return [
        (each["action"], each["metadata"].get("columns") or each["metadata"].get("how")) for each in events
    ]


def folded(events):
    """Whether one user's events say that a row exists, and whether they say that its user is alive."""
    row, alive = False, False
    for each in events:
        if each["action"] == "user.created":
            assert not row
            row = alive = True
        elif each["action"] == "user.updated":
            assert row
            alive = alive or "deleted_at" in each["metadata"]["columns"]
        else:
            row, alive = row and each["metadata"]["how"] != "hard", False
    return row, alive


def event_failures(project):
    return [each for each in project.client.failures() if each.kind == "event"]


SIGN_UPS = ("email", "phone", "oauth", "sso", "web3", "anonymous")


def test_each_flow_of_the_auth_server_records_its_events(project, recorded):
    auth = project.auth
    users = {kind: getattr(auth, f"sign_up_{kind}")() for kind in SIGN_UPS}
    users["invited"], users["admin"] = auth.invite("i@example.com"), auth.admin_create("a@example.com")
    for user in users.values():
        assert summarize(recorded(user))[0] == ("user.created", None)
        assert {action for action, _ in summarize(recorded(user))[1:]} <= {"user.updated"}
    imported = auth.import_users(3) + auth.copy_users(["x@example.com", "y@example.com"])
    assert Counter(action for user in imported for action, _ in summarize(recorded(user))) == {
        "user.created": 5
    }

    user = users["email"]
    before = recorded()
    auth.sign_in(user), auth.refresh_token(user), auth.sign_in_oauth(users["oauth"])
    auth.update_app_metadata(user, plan="pro"), auth.set_role(user, "service_role")
    auth.request_email_change(user, "other@example.com")
    assert recorded() == before, "no mirrored value has changed"

    columns = project.columns
    for act, *changed in (
        (lambda: auth.change_email(user, "new@example.com"), "email"),
        (lambda: auth.change_phone(user, "15550001", autoconfirm=True), "phone", "phone_confirmed_at"),
        (lambda: auth.update_user_metadata(user, full_name="Ada"), "full_name"),
        (lambda: auth.ban(user, timedelta(days=1)), "banned_until"),
        (lambda: auth.unban(user), "banned_until"),
    ):
        before = len(recorded(user))
        act()
        new = summarize(recorded(user))[before:]
        assert {action for action, _ in new} == {"user.updated"}
        assert {name for _, names in new for name in names} == {columns[each] for each in changed}

    auth.soft_delete(user)
    assert summarize(recorded(user))[-1] == ("user.deleted", "anonymized")
    before = recorded()
    auth.hard_delete(user)
    assert recorded() == before, "the row has not changed"
    auth.hard_delete(users["phone"])
    (deleted,) = [each for each in recorded(users["phone"]) if each["action"] == "user.deleted"]
    assert deleted["metadata"] == {
        "origin": "trigger", "how": "anonymized", "auth_user": "deleted",
        "actor_source": "role",
    }  # fmt: skip
    assert deleted["db_role"] == "supabase_auth_admin"
    assert (deleted["actor_id"], deleted["actor_type"]) == ("supabase_auth_admin", "system")
    assert (str(deleted["user_id"]), deleted["source"]) == (str(users["phone"]), "sync")
    assert (deleted["changes"], deleted["outcome"], deleted["id"].version) == (None, "succeeded", 7)
    for each in (*users.values(), *imported):
        assert folded(recorded(each)) == (True, project.row(each)["deleted_at"] is None)
    assert event_failures(project) == []


def test_events_have_their_origin_actor_and_backfill_mark(project, recorded, insert_without_triggers):
    synced, ensured, called = insert_without_triggers(3)
    project.owner.execute("select set_config('request.jwt.claims', %s, false)", ['{"role": "service_role"}'])
    project.owner.execute("select public.ensure_user_exists(%s)", [ensured])
    project.owner.execute(
        "set request.jwt.claims = ''; set usersync.actor_id = 'ada'; set usersync.request_id = 'r1'"
    )
    project.owner.execute("select public.usersync('sync_user', %s)", [json.dumps({"user_id": str(called)})])
    project.owner.execute("reset usersync.actor_id; reset usersync.request_id")
    with project.database.connect("supabase_admin") as superuser:
        superuser.execute("set session_replication_role = replica")
        superuser.execute(
            "update auth.users set created_at = now() - interval '1 year' where id = %s", [synced]
        )
    project.client.reconcile()
    found = {user: recorded(user) for user in (synced, ensured, called)}
    assert {summarize(events)[0][0] for events in found.values()} == {"user.created"}
    assert [len(events) for events in found.values()] == [1, 1, 1]
    assert found[synced][0]["metadata"]["origin"] == "reconcile"
    assert found[synced][0]["metadata"]["backfill"] is True
    assert found[ensured][0]["metadata"]["origin"] == "ensure"
    assert "backfill" not in found[ensured][0]["metadata"]
    assert (found[ensured][0]["actor_id"], found[ensured][0]["actor_type"]) == ("service_role", "service")
    assert found[called][0]["metadata"]["origin"] == "request"
    assert (found[called][0]["actor_id"], found[called][0]["request_id"]) == ("ada", "r1")
    project.client.reconcile()
    project.client.retry()
    assert project.client.ensure_user_exists(synced)
    assert {user: recorded(user) for user in found} == found


def test_events_are_recorded_only_while_requested(project):
    """Also in sessions that planned their statements earlier, because the auth server pools its sessions."""
    count = f"select count(*) from {LOG}"
    project.auth.sign_up_email("a@example.com")
    request_events(project, by="one")
    request_events(project, by="two")
    project.auth.sign_up_email("b@example.com")
    request_events(project, by="one", wanted=False)
    project.auth.sign_up_email("c@example.com")
    seen = project.owner.execute(count).fetchone()
    request_events(project, by="two", wanted=False)
    project.auth.change_email(project.auth.sign_up_email("d@example.com"), "e@example.com")
    assert project.owner.execute(count).fetchone() == seen
    emails = f"select email from {LOG} join users on users.id = user_id where action = 'user.created'"
    assert {email for (email,) in project.owner.execute(emails)} == {"b@example.com", "c@example.com"}


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(how, marks=pytest.mark.settings(audit={"enabled": True}, on_delete=policy))
        for policy, how in (("delete", "hard"), ("keep", "kept"), ("soft", "soft"))
    ],
)
def test_a_deletion_event_says_how_the_row_was_removed(project, recorded, how):
    hard, soft = (project.auth.sign_up_email(f"{n}@example.com") for n in ("hard", "soft"))
    project.auth.hard_delete(hard), project.auth.soft_delete(soft)
    for user, what in ((hard, "deleted"), (soft, "soft_deleted")):
        last = recorded(user)[-1]
        assert (last["metadata"]["how"], last["metadata"]["auth_user"]) == (how, what)
        assert last["user_id"] == (None if how == "hard" else user)
        assert folded(recorded(user))[0] == (project.row(user) is not None)
    before = recorded()
    with suppress(UserNotFoundError):
        project.client.remove_user(hard)
    project.client.remove_user(soft), project.client.reconcile()
    assert recorded() == before


CASCADE = """
    alter table public.users add constraint of_auth foreign key (id) references auth.users on delete cascade
"""
TRIGGER = """
    create function public.forget() returns trigger language plpgsql security definer as $$
    begin
        delete from public.users where id = old.id;
        return old;
    end $$;
    create trigger forget before delete on auth.users for each row execute function public.forget()
"""


@pytest.mark.parametrize(
    ("arrangement", "policy"),
    [
        pytest.param(
            sql, policy, id=f"{name}-{policy}",
            marks=pytest.mark.settings(audit={"enabled": True}, on_delete=policy),
        )
        for name, sql, policy in (
            ("cascade", CASCADE, "delete"), ("cascade", CASCADE, "anonymize"), ("trigger", TRIGGER, "delete"),
        )
    ],
)  # fmt: skip
def test_a_row_that_the_application_deletes_first_has_an_event(project, recorded, arrangement, policy):
    with project.database.connect("supabase_admin") as superuser:
        superuser.execute(arrangement)
    alone, soft, *several = (project.auth.sign_up_email(f"{n}@example.com") for n in range(5))
    project.auth.soft_delete(soft)
    was_deleted = project.row(soft) is None
    project.auth.hard_delete(alone), project.auth.hard_delete(soft)
    with project.database.connect("supabase_admin") as superuser:
        superuser.execute("delete from auth.users where id = any(%s)", [several])
    for user in (alone, soft, *several):
        assert project.row(user) is None
        found = [each for each in recorded(user) if each["action"] == "user.deleted"]
        expected = ["deleted"]
        if user == soft:
            expected = ["soft_deleted"] if was_deleted else ["soft_deleted", "deleted"]
        assert [each["metadata"]["auth_user"] for each in found] == expected
        assert found[-1]["user_id"] is None
        # Of several users, usersync's trigger sees the rows of all but the first. The key deletes them later.
        assert found[-1]["metadata"]["how"] == "hard" or (user in several and policy == "anonymize")
    assert event_failures(project) == []


@pytest.mark.slow
@pytest.mark.settings(audit={"enabled": True}, on_delete="delete", skip=["anonymous"])
def test_the_deletion_of_a_skipped_user_has_no_event(project, recorded):
    skipped, seen = project.auth.sign_up_anonymous(), project.auth.sign_up_email()
    project.auth.hard_delete(skipped), project.auth.hard_delete(seen)
    assert recorded(skipped) == []
    assert summarize(recorded(seen))[-1] == ("user.deleted", "hard")


def test_users_without_a_row_are_only_looked_for_while_nothing_has_waited(project):
    find = "select cardinality(usersync.users_without_row(array[gen_random_uuid()]))"
    assert project.owner.execute(find).fetchone() == (1,)
    for setting in ("usersync.has_waited", "usersync.gives_up"):
        with project.owner.transaction():
            project.owner.execute("select set_config(%s, 'yes', true)", [setting])
            assert project.owner.execute(find).fetchone() == (0,)
    with project.database.connect() as other, other.transaction():
        other.execute("lock table public.users")
        with project.owner.transaction():
            assert project.owner.execute(find).fetchone() == (0,)
            waited = project.owner.execute("select current_setting('usersync.has_waited', true)").fetchone()
            assert waited == ("yes",)
    project.client.pause()
    assert project.owner.execute(find).fetchone() == (0,)


def hook(body, when="before insert", level="for each row", kind="trigger", table=LOG):
    """SQL that creates a trigger of the log's owner."""
    return (
        f"create function public.hook() returns trigger language plpgsql as $$ begin {body} end $$;"
        f"create {kind} hook {when} on {table} {level} execute function public.hook()"
    )


NO_HOOK = "drop function public.hook() cascade"


def each_partition(statement):
    """Run a statement for each partition that ``public.parts`` names."""
    return (
        "do $$ declare each record; begin for each in select * from public.parts loop "
        f"execute format({statement}); end loop; end $$;"
    )


PARTS = (
    "create table public.parts as"
    " select inhrelid::regclass as part, pg_get_expr(relpartbound, inhrelid) as bound"
    f" from pg_inherits join pg_class on pg_class.oid = inhrelid where inhparent = '{LOG}'::regclass;"
)


@dataclass(frozen=True)
class Way:
    """A change by the log's owner, its repair, and the SQLSTATE in the failures table."""

    broken: str
    repaired: str
    sqlstate: str


BROKEN = {
    "renamed": Way(
        f"alter table {LOG} rename to elsewhere",
        "alter table public.elsewhere rename to audit_logs",
        "42P01",
    ),
    "a column renamed": Way(
        f"alter table {LOG} rename column source to origin",
        f"alter table {LOG} rename column origin to source",
        "42703",
    ),
    "a NOT NULL column without a default": Way(
        f"alter table {LOG} add column n int not null default 1;"
        f"alter table {LOG} alter column n drop default",
        f"alter table {LOG} drop column n",
        "23502",
    ),
    "a check": Way(
        f"alter table {LOG} add constraint rule check (entity_type <> 'user') not valid",
        f"alter table {LOG} drop constraint rule",
        "23514",
    ),
    "no partition": Way(
        PARTS + each_partition(f"'alter table {LOG} detach partition %s', each.part"),
        each_partition(f"'alter table {LOG} attach partition %s %s', each.part, each.bound")
        + "drop table public.parts",
        "23514",
    ),
    "a revoked privilege": Way(
        f"revoke insert on {LOG} from postgres", f"grant insert on {LOG} to postgres", "42501"
    ),
    "a trigger that raises": Way(hook("raise 'no % here', new.*::text;"), NO_HOOK, "P0001"),
    "a trigger that asserts": Way(hook("assert false, 'no';"), NO_HOOK, "P0004"),
    "a trigger that skips the row": Way(hook("return null;"), NO_HOOK, "27000"),
    "a slow trigger": Way(hook("perform pg_sleep(0.05); raise 'no';"), NO_HOOK, "P0001"),
    "a trigger on each partition": Way(
        PARTS
        + "create function public.hook() returns trigger language plpgsql as $$ begin raise 'no'; end $$;"
        + each_partition(
            "'create constraint trigger hook after insert on %s deferrable initially deferred "
            "for each row execute function public.hook()', each.part"
        ),
        NO_HOOK + "; drop table public.parts",
        "P0001",
    ),
    "a deferred trigger": Way(
        hook(
            "raise 'no';",
            when="after insert",
            level="deferrable initially deferred for each row",
            kind="constraint trigger",
        ),
        NO_HOOK,
        "P0001",
    ),
    "a trigger with a deferred effect": Way(
        "create table public.other (n int primary key,"
        " m int references public.other deferrable initially deferred);"
        + hook("insert into public.other values (1, 2); return new;"),
        NO_HOOK + "; drop table public.other",
        "23503",
    ),
}


@pytest.mark.parametrize("way", BROKEN.values(), ids=BROKEN)
def test_a_sign_up_never_fails_because_of_the_log(project, recorded, sql, way):
    """The failures table keeps each missing event until it is stored once, in order, with its own time."""
    auth = project.auth
    changing, leaving = (auth.sign_up_email(f"{n}@example.com") for n in ("changing", "leaving"))
    before = len(recorded())
    sql(way.broken)
    began = time.monotonic()
    new = auth.sign_up_email("new@example.com", data={"full_name": "New"})
    auth.change_email(changing, "newer@example.com")
    auth.hard_delete(leaving)
    imported = auth.import_users(20)
    assert time.monotonic() - began < HANG_S
    assert project.row(new)["full_name"] == "New"
    assert project.row(changing)["email"] == "newer@example.com"
    assert project.row(leaving)["email"] is None
    failures = event_failures(project)
    assert {each.user_id for each in failures} == {new, changing, leaving, *imported}
    # Events that follow a failed event are not tried.
    assert {each.sqlstate for each in failures} <= {way.sqlstate, "US003"}
    assert way.sqlstate in {each.sqlstate for each in failures}
    assert not [each for each in failures if "@" in each.message]
    status = project.client.status()
    assert (status.event_failed, status.failed, status.degraded) == (23, 0, 0)
    assert not status.in_step
    with suppress(DatabaseError):  # the event of the retry itself may fail at COMMIT
        project.client.retry()
    assert project.client.status().event_failed == 23, "it is still broken"
    sql(way.repaired)
    assert project.client.reconcile().errors == 0
    assert event_failures(project) == []
    assert project.client.status().in_step
    events = recorded()
    assert len(events) == before + len(failures)
    assert len({each["id"] for each in events}) == len(events)
    assert summarize(recorded(new))[0] == ("user.created", None)
    assert summarize(recorded(leaving))[-1] == ("user.deleted", "anonymized")
    assert {each["metadata"]["origin"] for each in events} == {"trigger"}
    assert {each["user_id"] for each in recorded(new)} == {new}
    for user in (new, changing, leaving, *imported):
        assert folded(recorded(user)) == (True, user != leaving)
    project.client.retry()
    assert recorded() == events


@pytest.mark.slow
def test_a_transaction_waits_for_a_locked_log_once(project, recorded):
    with project.connect() as other, other.transaction():
        other.execute(f"lock table {LOG} in access exclusive mode")
        began = time.monotonic()
        users = [*project.auth.import_users(5), project.auth.sign_up_email("a@example.com")]
        assert time.monotonic() - began < HANG_S
    assert {each.sqlstate for each in event_failures(project)} <= {"55P03", "US003"}
    planned = run(installation.plan_rollback(project.settings), project.owner).changes
    assert "with 7 events of users not stored yet (usersync retry)" in {each.reason for each in planned}
    assert all(project.row(user) for user in users)
    project.client.retry()
    assert Counter(action for action, _ in summarize(recorded())) == {"user.created": 6, "user.updated": 1}


def test_a_change_that_is_rolled_back_records_no_event(project, recorded, sql):
    auth = project.auth
    user = auth.sign_up_email("a@example.com")
    seen = recorded()
    with project.database.connect("supabase_auth_admin", autocommit=False) as connection:
        connection.execute("update auth.users set email = 'b@example.com' where id = %s", [user])
        connection.execute("insert into auth.users (id, email) values (gen_random_uuid(), 'c@example.com')")
        connection.rollback()
    assert recorded() == seen
    # If a row is refused, the event of the failed attempt is not stored.
    sql("alter table {users} add constraint rule check ({email} not like 'bad%%')")
    bad, *good = auth.copy_users(["bad@example.com", "fine@example.com", "good@example.com"])
    assert [summarize(recorded(each)) for each in good] == [[("user.created", None)]] * 2
    assert [(each["action"], each["metadata"]["degraded"]) for each in recorded(bad)] == [
        ("user.created", True)
    ]
    sql("alter table {users} drop constraint rule")
    project.client.retry()
    assert summarize(recorded(bad))[-1][0] == "user.updated"
    assert recorded(bad)[-1]["metadata"]["origin"] == "retry"
    assert project.columns["email"] in recorded(bad)[-1]["metadata"]["columns"]


def test_a_change_during_a_pause_is_recorded_after_resume(project, recorded):
    project.client.pause()
    user = project.auth.sign_up_email("a@example.com")
    assert recorded(user) == []
    project.client.resume()
    assert summarize(recorded(user)) == [("user.created", None)]
    assert recorded(user)[0]["metadata"]["origin"] == "retry"


def test_events_contain_old_and_new_values_on_request(project, recorded):
    request_events(project, values=True)
    email, name = project.columns["email"], project.columns["full_name"]
    user = project.auth.sign_up_email("a@example.com", data={"full_name": "Ada"})
    project.auth.change_email(user, "b@example.com")
    created, *changed = recorded(user)
    assert created["changes"][email] == [None, "a@example.com"]
    assert created["changes"][name] == [None, "Ada"]
    assert changed[-1]["changes"] == {email: ["a@example.com", "b@example.com"]}
    project.auth.hard_delete(user)
    assert recorded(user)[-1]["changes"] is None


def test_the_events_of_an_import_are_recorded_with_one_statement(project, recorded):
    """One INSERT into the log for all users, whatever their number."""
    with project.database.connect("supabase_admin", autocommit=False) as superuser:
        superuser.execute("set track_functions = 'all'")
        superuser.execute(
            "insert into auth.users (id, email) "
            "select gen_random_uuid(), n || '@example.com' from generate_series(1, 500) as n"
        )
        calls = superuser.execute(
            "select coalesce(sum(calls), 0) from pg_stat_xact_user_functions where funcname ~ 'user_event'"
        ).fetchone()[0]
        assert 1 <= calls < 10
        superuser.commit()
    assert Counter(action for action, _ in summarize(recorded())) == {"user.created": 500}
