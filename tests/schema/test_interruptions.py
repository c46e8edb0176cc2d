"""apply and rollback are interrupted at each statement, or wait for a lock on auth.users."""

from __future__ import annotations

import random
import re
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from audit_settings import with_audit_log
from fixtures_catalog import read_catalog
from fixtures_project import clone_installed
from usersync.errors import BusyError, ConnectionFailedError, UsersyncError
from usersync.schema import installation
from usersync.transports import lock_retry
from usersync.transports.run import run
from usersync.transports.steps import Pause, Statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from usersync.transports.steps import Steps

pytestmark = pytest.mark.newest_server


def watched(plan: Steps, before: Callable[[int, object], None]) -> Steps:
    """The operation, with a call of ``before`` for each statement and its number."""
    number, step = 0, next(plan)
    try:
        while True:
            number += 1
            before(number, step)
            try:
                rows = yield step
            except UsersyncError as error:
                step = plan.throw(error)
            else:
                step = plan.send(rows)
    except StopIteration as end:
        return end.value
    finally:
        plan.close()


class Interruption:
    """Ends the session that runs the operation, from another session."""

    def __init__(self, database, superuser) -> None:
        self._database, self._superuser = database, superuser

    def survived(self, plan: Steps, at: int) -> bool:
        """Whether the operation ended before its statement with this number."""
        with self._database.connect("postgres") as connection:
            pid = connection.info.backend_pid

            def kill(number: int, _: object) -> None:
                if number == at:
                    self._superuser.execute("select pg_terminate_backend(%s, 5000)", [pid])

            try:
                run(watched(plan, kill), connection)
            except ConnectionFailedError as error:
                assert "terminat" in str(error) or "closed" in str(error)  # noqa: PT017 - any other is a failure
                return False
        return True


@pytest.fixture
def interruption(database, superuser) -> Interruption:
    return Interruption(database, superuser)


#: About a hundred statements that create functions in one transaction.
FUNCTION = re.compile(r"^create (or replace )?function ", re.MULTILINE)

#: The statements that are interrupted. Most of them change nothing that another session sees.
AT = pytest.mark.parametrize("at", ["each commit", pytest.param("many statements", marks=pytest.mark.slow)])


def numbered(operation: Steps, connection: psycopg.Connection[Any]) -> dict[int, str]:
    """Runs the operation. Returns its statements by number."""
    sent: dict[int, str] = {}
    run(
        watched(operation, lambda number, step: sent.update({number: str(getattr(step, "sql", ""))})),
        connection,
    )
    return sent


def at_each_commit(sent: dict[int, str]) -> list[int]:
    """The numbers of each COMMIT and of the statement after it."""
    commits = [number for number, text in sent.items() if text == "commit"]
    assert commits
    return [each for number in commits for each in (number, number + 1)]


@pytest.mark.slow
@AT
@pytest.mark.timeout(600)  # one installation for each interruption
def test_an_interrupted_apply_leaves_no_change_or_can_be_completed(interruption, installer, catalog, at):
    """ "Many statements" are all, with every eighth of those that create functions."""
    bare, states = catalog(), []
    sent = numbered(installation.apply(with_audit_log()), installer.connection)
    complete = catalog()
    installer.rollback(with_audit_log(), drop_users_table=True, drop_audit_log=True)
    assert catalog() == bare
    chosen = at_each_commit(sent)
    if at == "many statements":
        start = random.randrange(8)  # noqa: S311 - seeded by pytest-randomly
        chosen = [n for n, text in sent.items() if n % 8 == start or not FUNCTION.search(text)]
        assert len(sent) / 3 < len(chosen) < len(sent) / 2
    for number in chosen:
        assert not interruption.survived(installation.apply(with_audit_log()), at=number)
        state = catalog()
        if state == complete:  # After the last commit, only notifications are sent.
            installer.rollback(with_audit_log(), drop_users_table=True, drop_audit_log=True)
            continue
        # Triggers of usersync's own tables block no sign-in.
        triggers = [name for kind, name in state.keys() - bare.keys() if kind == "trigger"]
        assert state == bare or not [name for name in triggers if " on usersync." not in name]
        states.append(state == bare)
        if state != bare:
            # Only the objects that lock busy tables are missing: the triggers, and the log that references
            # the users. The next apply creates only these.
            missing = {name for _, name in complete.keys() - state.keys()}
            assert {
                name for name in missing if "on_auth_user" not in name and "audit_logs" not in name
            } == set()
            expected = ("create trigger ", "create table public.audit_logs")
            assert all(each.startswith(expected) for each in installer.subjects(with_audit_log()))
            installer.apply(with_audit_log())
            assert catalog() == complete
            installer.rollback(with_audit_log(), drop_users_table=True, drop_audit_log=True)
            assert catalog() == bare
    assert interruption.survived(installation.apply(with_audit_log()), at=len(sent) + 1)
    assert catalog() == complete
    assert True in states
    assert False in states


@pytest.mark.slow
@AT
@pytest.mark.timeout(600)  # one installation for each interruption
def test_an_interrupted_rollback_can_be_repeated(cluster, catalog, at):
    """ "Many statements" are the first twelve, which drop all triggers, and every sixth of the others."""
    bare = catalog()

    def rollback():
        return installation.rollback(with_audit_log(), drop_users_table=True, drop_audit_log=True)

    @contextmanager
    def installed():
        clone = clone_installed(cluster, with_audit_log())
        with clone.connect("supabase_admin") as superuser, clone.connect("postgres") as postgres:
            yield Interruption(clone, superuser), postgres
            if read_catalog(superuser) != bare:
                run(rollback(), postgres)
            assert read_catalog(superuser) == bare
        cluster.drop(clone)

    with installed() as (_, postgres):
        sent = numbered(rollback(), postgres)
    assert len(sent) > 30
    many = [number for number in sent if number <= 12 or number % 6 == 0]
    for n, number in enumerate(many if at == "many statements" else at_each_commit(sent)):
        with installed() as (interruption, postgres):
            assert not interruption.survived(rollback(), at=number)
            if n % 3 == 1:
                run(installation.apply(with_audit_log()), postgres)
                assert run(installation.plan(with_audit_log()), postgres).changes == ()


def test_an_error_during_apply_leaves_no_change(installer, catalog, superuser):
    before = catalog()
    superuser.execute(
        "create function refuse() returns event_trigger language plpgsql as $$ begin "
        "if exists (select from pg_event_trigger_ddl_commands() where object_identity ~ 'sync_users') then "
        "raise exception 'not today'; end if; end $$; create event trigger refuse on ddl_command_end "
        "execute function refuse()"
    )
    with pytest.raises(UsersyncError, match="not today"):
        installer.apply(with_audit_log())
    superuser.execute("drop event trigger refuse; drop function refuse()")
    assert catalog() == before


def waits(plan: Steps, notice: Callable[[], None]) -> Steps:
    """The operation, with a call of ``notice`` in place of each wait."""
    step = next(plan)
    try:
        while True:
            try:
                if isinstance(step, Pause):
                    notice()
                    rows = []
                else:
                    rows = yield step
            except UsersyncError as error:
                step = plan.throw(error)
            else:
                step = plan.send(rows)
    except StopIteration as end:
        return end.value


@pytest.mark.slow
def test_apply_tries_a_locked_table_again_until_it_is_free(database, installer):
    pauses = []
    with database.connect("supabase_auth_admin") as other:
        other.execute("begin; lock table auth.users in row exclusive mode")

        def notice() -> None:
            pauses.append(1)
            if len(pauses) == 3:
                other.execute("rollback")

        run(waits(installation.apply(with_audit_log()), notice), installer.connection)
    assert len(pauses) == 3
    assert installer.subjects(with_audit_log()) == []


@pytest.mark.slow
def test_apply_raises_busy_error_if_a_table_stays_locked(database, installer, monkeypatch):
    monkeypatch.setattr(lock_retry, "_ATTEMPTS", 3)
    with database.connect("supabase_auth_admin") as other:
        other.execute("begin; lock table auth.users in row exclusive mode")
        with pytest.raises(BusyError, match="could not be locked in 3 attempts") as caught:
            run(waits(installation.apply(with_audit_log()), lambda: None), installer.connection)
        assert "user supabase_auth_admin, idle in transaction since" in caught.value.hint
        assert {each.split(" ")[1] for each in installer.subjects(with_audit_log())} == {"trigger", "table"}
        other.execute("rollback")
    installer.apply(with_audit_log())
    assert installer.subjects(with_audit_log()) == []


@pytest.mark.slow
def test_sign_ins_wait_no_longer_than_the_lock_timeout(database, installer, monkeypatch):
    """A sign-in that queues behind usersync's lock request waits a tenth of a second at most."""
    monkeypatch.setattr(lock_retry, "_ATTEMPTS", 10_000)
    longest, timeouts, timed_out = [], [], set()
    stop = threading.Event()

    def sign_in() -> None:
        with database.connect("supabase_auth_admin") as connection:
            while not stop.is_set():
                began = time.monotonic()
                connection.execute("update auth.users set last_sign_in_at = now()")
                longest.append(time.monotonic() - began)

    def note_timeout(_: int, step: object) -> None:
        if isinstance(step, Statement) and "lock_timeout" in step.sql and step.params:
            timeouts.extend(step.params.values())

    with database.connect("supabase_auth_admin") as other:
        other.execute("begin; lock table auth.users in row exclusive mode")

        def notice() -> None:
            timed_out.add(timeouts[-1])
            if len(longest) > 8:
                other.execute("rollback")

        signing_in = threading.Thread(target=sign_in)
        signing_in.start()
        try:
            plan = watched(installation.apply(with_audit_log()), note_timeout)
            run(waits(plan, notice), installer.connection)
        finally:
            stop.set()
            signing_in.join()
    assert timed_out == {"100ms"}
    # For slow machines. A sign-in that waited for the other transaction would wait until the test ends.
    assert max(longest) < 60
    assert len(longest) > 8


@pytest.mark.slow
def test_no_lock_is_held_between_two_attempts(database, installer):
    seen = []
    with database.connect("supabase_auth_admin") as other, database.connect("supabase_admin") as watcher:
        other.execute("begin; lock table auth.users in row exclusive mode")
        pid = installer.connection.info.backend_pid

        def notice() -> None:
            held = watcher.execute(
                "select relation::regclass::text, mode from pg_locks where pid = %s and relation is not null",
                [pid],
            ).fetchall()
            seen.append(held)
            if len(seen) == 2:
                other.execute("rollback")

        run(waits(installation.apply(with_audit_log()), notice), installer.connection)
    assert seen == [[], []]


@pytest.mark.slow
def test_rollback_tries_a_locked_table_again(database, installer):
    installer.apply(with_audit_log())
    pauses = []
    with database.connect("supabase_auth_admin") as other:
        other.execute("begin; select from auth.users")

        def notice() -> None:
            pauses.append(1)
            if len(pauses) == 2:
                other.execute("rollback")

        run(waits(installation.rollback(with_audit_log()), notice), installer.connection)
    assert len(pauses) == 2
    with pytest.raises(psycopg.errors.UndefinedTable):
        installer.connection.execute("select from usersync.settings")
