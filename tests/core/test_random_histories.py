"""P1 to P3 for random sequences of sign-ups, changes, deletions, breakages of the schema and repairs.

The events of a user also give the state of the row, whatever the log's owner does to the log.

``USERSYNC_STATEFUL_EXAMPLES=500`` runs more examples than CI. Hypothesis shrinks a failing sequence
and prints its steps, with a line that repeats it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import datetime, timedelta

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.rows import dict_row

from usersync.errors import DatabaseError
from usersync.testing import BREAKAGES, broken_users_table

#: The numbers of examples of ``make test`` and of CI.
QUICK, ALL = 6, 40

#: Excluded: breakages that make each step wait for a time-out, or that fail on existing rows.
BREAKS = sorted(set(BREAKAGES) - {"locked", "unique_email", "deferred_unique_email"})
#: During these breakages the rows cannot be read under their names.
UNREADABLE = {"missing", "renamed", "column_renamed", "bad_type"}

MIRRORED = (
    "email",
    "phone",
    "is_anonymous",
    "email_confirmed_at",
    "phone_confirmed_at",
    "banned_until",
    "created_at",
)
#: Mirrored columns whose values are the same in a row and in JSON.
TEXTS = ("email", "phone", "is_anonymous")

LOG = "public.audit_logs"
_HOOK = (
    "create function public.log_hook() returns trigger language plpgsql as $$ begin {} end $$;"
    f"create trigger hook before insert on {LOG} for each row execute function public.log_hook()"
)
#: Changes by the log's owner with which the log stores no event.
LOG_BREAKS = {
    "raises": _HOOK.format("raise 'no'; "),
    "skips": _HOOK.format("return null;"),
    "column": f"alter table {LOG} rename column request_id to request",
}
LOG_REPAIR = f"""drop function if exists public.log_hook() cascade;
do $$ begin
    alter table {LOG} rename column request to request_id;
exception when undefined_column then null; end $$"""
PERSONAL = ("email", "phone", "full_name", "avatar_url")

SIGN_UPS = (
    "sign_up_email",
    "sign_up_phone",
    "sign_up_oauth",
    "sign_up_sso",
    "sign_up_anonymous",
    "admin_create",
)
CHANGES = {
    "change_email": lambda auth, user, n: auth.change_email(user, f"changed-{n}@example.com"),
    "change_phone": lambda auth, user, n: auth.change_phone(user, f"1666{n:07}"),
    "name": lambda auth, user, n: auth.update_user_metadata(user, full_name=f"Name {n}"),
    "no_name": lambda auth, user, _: auth.update_user_metadata(user, full_name=None, name=None),
    "ban": lambda auth, user, n: auth.ban(user, timedelta(days=n + 1)),
    "unban": lambda auth, user, _: auth.unban(user),
    "refresh_token": lambda auth, user, _: auth.refresh_token(user),
    "soft_delete": lambda auth, user, _: auth.soft_delete(user),
    "hard_delete": lambda auth, user, _: auth.hard_delete(user),
}


class RandomHistory(RuleBasedStateMachine):
    """One sequence of steps. All sequences use the same project, and begin with empty tables."""

    project = None
    superuser = None

    def __init__(self):
        super().__init__()
        self.number = 0
        self.how = None
        self.log_is_broken = False
        self.with_values = False
        self.damage = ExitStack()
        #: Users changed with triggers disabled. Only a run notices these changes.
        self.unseen = set()
        self.known = set()

    def teardown(self):
        self.damage.close()
        self.repair_log()
        users = self.project.users
        self.superuser.execute("set usersync.maintaining = 'audit'")  # the log refers to the users
        self.superuser.execute(f"truncate auth.users cascade; truncate {users} cascade")
        self.superuser.execute("truncate usersync.sync_failures, usersync.sync_runs")

    # Steps of the auth server. None of them may fail (P1).

    @rule(kind=st.sampled_from(SIGN_UPS))
    def sign_up(self, kind):
        self.known.add(getattr(self.project.auth, kind)())

    @precondition(lambda self: self.living())
    @rule(data=st.data(), change=st.sampled_from(sorted(CHANGES)))
    def change(self, data, change):
        self.number += 1
        user = data.draw(st.sampled_from(range(len(self.living()))), "user")
        CHANGES[change](self.project.auth, self.living()[user], self.number)

    @rule(count=st.integers(1, 5))
    def import_users(self, count):
        self.number += 1
        self.known.update(self.project.auth.import_users(count, domain=f"{self.number}.example.com"))

    # Steps of the application and of the platform.

    @initialize(how=st.sampled_from(BREAKS), kind=st.sampled_from(SIGN_UPS), values=st.booleans())
    def begin_broken(self, how, kind, values):
        self.with_values = values
        self.project.owner.execute("select usersync.request_user_events('test', true, %s)", [values])
        self.break_it(how, kind)

    @precondition(lambda self: self.how is None)
    @rule(how=st.sampled_from(BREAKS), kind=st.sampled_from(SIGN_UPS))
    def break_users_table(self, how, kind):
        self.break_it(how, kind)

    def break_it(self, how, kind):
        """Break the table and sign a user up, because this next step must occur."""
        options = {"table": self.project.settings.users_table, "column": self.project.columns["email"]}
        self.damage.enter_context(broken_users_table(self.project.database.dsn(), how, **options))
        self.how = how
        self.known.add(getattr(self.project.auth, kind)())

    @precondition(lambda self: self.how)
    @rule()
    def repair(self):
        self.damage.close()
        self.how = None

    @rule(way=st.sampled_from(sorted(LOG_BREAKS)))
    def break_or_repair_log(self, way):
        if self.log_is_broken:
            self.repair_log()
        else:
            self.project.owner.execute(LOG_BREAKS[way])
            self.log_is_broken = True

    def repair_log(self):
        if self.log_is_broken:
            self.project.owner.execute(LOG_REPAIR)
            self.log_is_broken = False

    @precondition(lambda self: self.living())
    @rule(
        data=st.data(),
        statement=st.sampled_from(["delete from auth.users", "update auth.users set phone = null"]),
    )
    def change_unseen(self, data, statement):
        user = self.living()[data.draw(st.sampled_from(range(len(self.living()))), "user")]
        self.superuser.execute("set session_replication_role = replica")
        self.superuser.execute(f"{statement} where id = %s", [user])
        self.superuser.execute("set session_replication_role = default")
        self.unseen.add(user)

    @precondition(lambda self: self.how is None)
    @rule()
    def make_a_row_stale(self):
        email, key = self.project.column("email"), self.project.settings.key
        stale = self.project.owner.execute(
            f"update {self.project.users} set {email} = 'spoilt' where ctid = (select min(ctid) from"
            f' {self.project.users}) returning "{key}"'
        )
        self.unseen.update(user for (user,) in stale)

    # Steps of usersync.

    @rule(page_size=st.sampled_from([2, 5000]))
    def reconcile(self, page_size):
        try:
            self.project.client.reconcile(page_size=page_size)
        except DatabaseError:
            assert self.how in UNREADABLE
            return
        if self.how is None:
            self.project.client.retry()
        left_alone = {
            each.user_id
            for each in self.project.client.reconcile(dry_run=True).differences
            if each.difference in {"orphaned", "deleted_upstream"}
        }
        self.unseen &= left_alone
        if self.how is None and not left_alone:
            assert self.users_with_failures() == set()
            if not self.log_is_broken:
                assert self.project.client.failures() == []
                assert self.project.client.status().in_step
            rows = self.rows_and_versions()
            assert self.project.client.reconcile(page_size=page_size).counts.differing == 0
            assert self.rows_and_versions() == rows

    @precondition(lambda self: self.how is None)
    @rule()
    def remove_rows_of_deleted_users(self):
        for removal in (
            self.project.client.remove_orphans(limit=1_000_000),
            self.project.client.apply_deletions(limit=1_000_000),
        ):
            assert (removal.removed, removal.failed) == (removal.found, 0)
        status = self.project.client.status()
        assert (status.orphaned, status.deleted_upstream) == (0, 0)

    @rule()
    def retry(self):
        tried = {failure.user_id for failure in self.project.client.failures()}
        self.project.client.retry()
        if self.how is None:
            assert not tried & self.users_with_failures()
            if not self.log_is_broken:
                assert not tried & {failure.user_id for failure in self.project.client.failures()}

    @precondition(lambda self: self.how is None and self.living())
    @rule()
    def ensure_all_users_exist(self):
        for user in self.living():
            assert self.project.client.ensure_user_exists(user)

    # Invariants, checked after each step.

    @invariant()
    def every_row_is_in_sync_or_has_a_sync_failure(self):
        if self.how in UNREADABLE:
            return
        excused = self.users_with_failures() | self.unseen
        auth_users = self.auth_users()
        for user in self.known - excused:
            there, row = auth_users.get(user), self.project.row(user)
            if there is None or there["deleted_at"]:
                assert row is None or (row["deleted_at"] and not any(row[name] for name in PERSONAL))
            else:
                metadata = there["raw_user_meta_data"]
                assert row, f"{user} has no row and no sync failure"
                assert {name: row[name] for name in MIRRORED} == {name: there[name] for name in MIRRORED}
                assert row["full_name"] == metadata.get("full_name", metadata.get("name"))

    @invariant()
    def the_events_of_a_user_give_the_state_of_the_row(self):
        if self.how in UNREADABLE:
            return
        excused = self.users_with_failures() | self.unseen
        events = self.events()
        assert len({each["id"] for each in events}) == len(events)
        for user in self.known - excused:
            has_row, is_alive, values = False, False, {}
            for event in events:
                if event["entity_id"] != str(user):
                    continue
                if event["action"] == "user.deleted":
                    is_alive, has_row = False, has_row and event["metadata"]["how"] != "hard"
                else:
                    assert has_row or event["action"] == "user.created"
                    is_alive = has_row = True
                    values |= {name: new for name, (_, new) in (event["changes"] or {}).items()}
            row = self.project.row(user)
            assert has_row == (row is not None)
            assert is_alive == (row is not None and row["deleted_at"] is None)
            if self.with_values and is_alive:
                written = [values.get(self.project.columns[name]) for name in TEXTS]
                assert written == [row[name] for name in TEXTS]

    @invariant()
    def one_pass_gives_the_same_result_as_pages(self):
        if self.how in UNREADABLE:
            return
        (in_step,) = self.project.owner.execute("select in_step from usersync.compare_tables()").fetchone()
        differing = self.project.client.reconcile(dry_run=True).counts.differing
        assert in_step == (not differing and not self.project.client.failures())

    @invariant()
    def the_failures_table_contains_no_email(self):
        for failure in self.project.client.failures():
            assert "@" not in failure.message

    def users_with_failures(self):
        return {each.user_id for each in self.project.client.failures() if each.kind != "event"}

    def events(self):
        """The events of users, in the log and in the failures table, the oldest first."""
        found = [
            event
            for (event,) in self.superuser.execute(
                "select event from usersync.sync_failures where kind = 'event' union all "
                f"select to_jsonb(log) from {LOG} as log where entity_type = 'user'"
            )
        ]
        return sorted(found, key=lambda event: datetime.fromisoformat(event["occurred_at"]))

    def auth_users(self):
        with self.superuser.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute("select * from auth.users").fetchall()
        return {row["id"]: row for row in rows}

    def living(self):
        query = "select id from auth.users where deleted_at is null order by created_at, id"
        return [user for (user,) in self.superuser.execute(query)]

    def rows_and_versions(self):
        query = f"select ctid::text, xmin::text, u::text from {self.project.users} as u order by 1"
        return self.superuser.execute(query).fetchall()


@pytest.mark.newest_server
@pytest.mark.settings(audit={"enabled": True})
@pytest.mark.timeout(0)  # the number of steps limits the test, and a busy machine may take long
def test_p1_to_p3_hold_for_random_sequences_of_steps(project, pytestconfig):
    examples = QUICK if pytestconfig.getoption("--quick") else ALL
    project.owner.prepare_threshold = None  # the table's columns change
    with project.database.connect("supabase_admin") as superuser:
        machine = type("RandomHistory", (RandomHistory,), {"project": project, "superuser": superuser})
        run_state_machine_as_test(
            machine,
            settings=hypothesis_settings(
                max_examples=int(os.environ.get("USERSYNC_STATEFUL_EXAMPLES", examples)),
                stateful_step_count=25,
                print_blob=True,
            ),
        )
