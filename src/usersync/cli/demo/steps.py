"""The steps of the demo. Each runs on a real server, and checks its results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import psycopg

from usersync.audit import reading
from usersync.audit.spool.listing import survey_spools
from usersync.cli.audit.history import HistoryView
from usersync.cli.audit.spool import SpoolView
from usersync.cli.demo.environment import SETTINGS, DemoEnvironment, DemoFailedError, expect
from usersync.cli.demo.events import Command, Event, Failure, Row, Rows, Sentence, Statement, Success
from usersync.cli.failures import failure_lines
from usersync.cli.plan_view import done_lines
from usersync.cli.status import StatusView
from usersync.cli.sync_view import SyncView
from usersync.cli.text import bad, plain, wrap
from usersync.gotrue import GoTrueError
from usersync.schema import installation
from usersync.transports.run import run

if TYPE_CHECKING:
    from usersync.models import SyncResult

Events = Iterator[Event]
Step = tuple[str, Callable[[DemoEnvironment, int], Events]]

_FOREIGN_KEY, _NOT_NULL = "23503", "23502"
_STOCK = 10

#: The indent of a command's output.
_OUTPUT_INDENT = 2

# Existing rows get a value, as in a careful migration.
_BREAK = (
    "alter table public.users add column team text not null default 'founders'",
    "alter table public.users alter column team drop default",
)


def a_user_without_a_row(env: DemoEnvironment, _: int) -> Events:
    env.script("inventory/schema.sql")
    env.rows("insert into public.products (name, stock) values ('bolt M8', 10)")
    yield Sentence("An inventory application. Its audit log refers to its users table:")
    yield Statement("audit_logs.user_id uuid references public.users (id)")
    env.people["Ada"] = env.auth.admin_create("ada@example.com", user_metadata={"full_name": "Ada"})
    there, here = env.counts()
    expect((there, here) == (1, 0), "Ada is in auth.users and not in public.users")
    yield Success("Ada is created in the auth dashboard", f"auth.users: {there}, public.users: {here}")
    yield _refused("Ada takes 3 bolts from the stock", lambda: env.take_bolts("Ada", 3))
    expect(env.stock == _STOCK, "the stock is unchanged")
    yield Sentence(f"The whole operation fails with its audit row: the stock is still {env.stock}.")


def the_hand_written_trigger(env: DemoEnvironment, width: int) -> Events:
    env.script("handle_new_user.sql")
    yield Sentence("The usual hand-written trigger:")
    yield Statement("create trigger on_auth_user_created … execute function handle_new_user()")
    env.people["Grace"] = env.auth.sign_up_email("grace@example.com", data={"full_name": "Grace"})
    expect(env.counts()[1] == 1, "the trigger makes a row")
    yield Success("Grace signs up", "She has a row in public.users.")
    yield Sentence("The trigger does nothing for Ada. Later, a migration changes the table:")
    yield from _break(env)
    yield from _rejected("Linus tries to sign up", lambda: env.auth.sign_up_email("linus@example.com"))
    yield Sentence(
        "Now every sign-up fails. The column is dropped again, and usersync inspects the database:"
    )
    env.rows("alter table public.users drop column team")
    planned = run(installation.plan(SETTINGS, adopt=True), env.owner)
    replaced = [each for each in planned.changes if each.kind == "drop"]
    expect(len(replaced) == 1 and not planned.errors, "plan --adopt replaces the hand-written trigger")
    answer = f"{replaced[0].subject}: {replaced[0].reason}"
    yield _typed("usersync plan --adopt", wrap(plain(answer), width - _OUTPUT_INDENT, first=bad("- ")))


def the_installation(env: DemoEnvironment, width: int) -> Events:
    planned = run(installation.plan(SETTINGS, adopt=True), env.owner)
    expect(planned.changes and not planned.errors, "nothing prevents the installation")
    applied = run(installation.apply(SETTINGS, adopt=True), env.owner)
    expect(applied.changes == planned.changes, "apply does what plan says")
    result = env.client.reconcile()
    expect((result.counts.missing, result.errors) == (1, 0), "only Ada was missing")
    yield Sentence("'usersync apply' makes these changes. 'usersync rollback' restores the trigger:")
    yield _typed(
        "usersync apply --adopt", [*done_lines(applied.changes, width), *_synced(env, result, width)]
    )
    yield Sentence("Ada had no row. Grace's row was incomplete: the trigger copies only two columns.")
    people = "select email, full_name, is_anonymous from public.users order by email"
    yield Rows("public.users", env.rows(people))
    expect(not run(installation.plan(SETTINGS), env.owner).changes, "a second apply has nothing to do")


def sign_ups(env: DemoEnvironment, _: int) -> Events:
    env.people |= {
        "e-mail": env.auth.sign_up_email("linus@example.com", data={"full_name": "Linus"}, autoconfirm=False),
        "Google": env.auth.sign_up_oauth("google", "margaret@example.com", name="Margaret"),
        "anonymous": env.auth.sign_up_anonymous(),
        "admin API": env.auth.admin_create("alan@example.com", user_metadata={"full_name": "Alan"}),
    }
    rows = [
        {"signed up by": how} | env.rows(_ARRIVED, env.people[how])[0]
        for how in ("e-mail", "Google", "anonymous", "admin API")
    ]
    expect(all(row["same transaction"] for row in rows), "each row was written in the sign-up's transaction")
    yield Sentence("Four kinds of sign-up. Each row is written in the transaction of the sign-up:")
    yield Rows("public.users", rows)


_ARRIVED = """
    select here.email, here.full_name,
        pg_xact_commit_timestamp(here.xmin) = pg_xact_commit_timestamp(there.xmin) as "same transaction"
    from auth.users as there join public.users as here using (id) where id = %s
"""


def the_audit_log(env: DemoEnvironment, _: int) -> Events:
    env.use_audit_log()
    env.take_bolts("Ada", 3)
    yield Sentence("The inventory now records with usersync, into the same table:")
    yield Statement('audit.record_in(connection, "stock.adjusted", entity=("product", 1), …)')
    yield Success("Ada takes 3 bolts from the stock: the operation that failed before")
    env.people["Alan"] = env.people["admin API"]
    env.rows("delete from public.users where id = %s", env.people["Alan"])
    env.take_bolts("Alan", 2)
    logged = env.rows(_LOGGED)
    expect([row["email"] for row in logged] == ["ada@example.com", "alan@example.com"], "both are named")
    expect(env.stock == _STOCK - 5, "both operations are done")
    yield Success(
        "Alan's row is deleted by hand. Then Alan takes 2 bolts",
        "His row is created again in the same transaction. The audit log:",
    )
    yield Rows("public.audit_logs", logged)


_LOGGED = """
    select audit_logs.action, audit_logs.changes ->> 'stock' as stock, users.email
    from public.audit_logs join public.users on users.id = audit_logs.user_id
    order by audit_logs.created_at
"""


def the_broken_schema(env: DemoEnvironment, width: int) -> Events:
    yield Sentence("The same change to the table as before:")
    yield from _break(env)
    env.people["Barbara"] = env.auth.sign_up_email("barbara@example.com", data={"full_name": "Barbara"})
    yield Success("Barbara signs up", "The sign-up succeeds. Her row could not be created. The reason:")
    found = env.client.failures()
    expect(
        [(each.user_id, each.sqlstate, each.column) for each in found]
        == [(env.people["Barbara"], _NOT_NULL, "team")],
        "the failures table names Barbara and the column",
    )
    yield _typed("usersync failures", failure_lines(found[0], width - _OUTPUT_INDENT))
    env.take_bolts("Barbara", 1)
    event = env.rows(_UNRESOLVED)[0]
    expect(event["original_user_id"] == str(env.people["Barbara"]), "the event knows that it was Barbara")
    yield Success("Barbara takes a bolt", "The event is stored without the link, with her id and the reason:")
    yield Row("public.audit_logs", event)
    yield from _repair(env, width)


def _repair(env: DemoEnvironment, width: int) -> Events:
    repair = "alter table public.users alter column team set default 'unassigned'"
    env.rows(repair)
    yield Sentence("The fix:")
    yield Statement(repair)
    result = env.client.reconcile()
    expect((result.synced, result.errors) == (1, 0), "Barbara is synced")
    expect(not env.client.failures(), "the failures table is empty")
    yield _typed("usersync sync", _synced(env, result, width))


_UNRESOLVED = """
    select action, user_id, metadata ->> 'original_user_id' as original_user_id,
        metadata ->> 'user_sync_error' as user_sync_error
    from public.audit_logs where metadata ? 'user_sync_error'
"""


def the_outage(env: DemoEnvironment, width: int) -> Events:
    env.stop_server()
    yield Success("The database is stopped")
    began = time.perf_counter()
    ids = env.count_bolts("Grace", _SCANS)
    took = time.perf_counter() - began
    expect(len(set(ids) - {None}) == _SCANS, "every event is accepted")
    yield Success(
        f"Grace counts the shelf: audit.record(…), {_SCANS} times in {took * 1000:.0f} ms",
        "No call fails or waits. The events are in the spool, a file that survives a kill -9:",
    )
    spool = SpoolView(env.spool_dir, tuple(survey_spools(env.spool_dir)))
    expect(sum(each.waiting for each in spool.surveys) == _SCANS, "all events are spooled")
    yield _typed("usersync audit spool", spool.lines(width - _OUTPUT_INDENT))
    env.start_server()
    expect(env.audit.flush(timeout=30), "the events are delivered")
    stored = env.rows(_STORED, [each for each in ids if each])[0]
    expect(stored == {"events": _SCANS, "ids": _SCANS}, "each arrived once")
    yield Success("The database is started", f"All {_SCANS} events are in the audit log, each exactly once.")


_SCANS = 500
_STORED = """
    select count(*) as events, count(distinct id) as ids from public.audit_logs where id = any(%s::uuid[])
"""


def the_deletion(env: DemoEnvironment, width: int) -> Events:
    env.auth.hard_delete(env.people["Ada"])
    yield Success("Ada is deleted in the auth dashboard", "Her personal data is erased, her id stays:")
    row = env.rows(_TOMBSTONE, env.people["Ada"])[0]
    expect(row["email"] is None and row["deleted"], "Ada's row is anonymised")
    yield Rows("public.users", [row])
    page = run(reading.history("product", "1"), env.owner)
    takers = [event.actor_id for event in page.events]
    expect(takers == [str(env.people[name]) for name in ("Ada", "Alan", "Barbara")], "all three are named")
    yield Sentence("The audit log still says who took the bolts:")
    view = HistoryView("product/1", page, env.target)
    yield _typed("usersync audit history product/1", view.lines(width - _OUTPUT_INDENT))


_TOMBSTONE = """
    select id, email, full_name, deleted_at is not null as deleted from public.users where id = %s
"""


def the_status(env: DemoEnvironment, width: int) -> Events:
    status = env.client.status()
    expect(status.in_step, "everything is in sync")
    yield _typed("usersync status", StatusView(status, env.target).lines(width - _OUTPUT_INDENT))


STEPS: tuple[Step, ...] = (
    ("The problem: a user without a row", a_user_without_a_row),
    ("The hand-written trigger, and how it fails sign-ups", the_hand_written_trigger),
    ("The installation", the_installation),
    ("Sign-ups", sign_ups),
    ("The audit log with usersync", the_audit_log),
    ("A schema change breaks the sync, and is fixed", the_broken_schema),
    ("An outage of the database", the_outage),
    ("A user is deleted", the_deletion),
    ("The state of both tables", the_status),
)


def _break(env: DemoEnvironment) -> Events:
    for statement in _BREAK:
        env.rows(statement)
        yield Statement(statement)


def _synced(env: DemoEnvironment, result: SyncResult, width: int) -> list[str]:
    return list(SyncView(result, env.target).lines(width - _OUTPUT_INDENT))


def _typed(command: str, answer: Iterable[str]) -> Command:
    return Command(command, tuple(answer))


def _refused(what: str, action: Callable[[], Any]) -> Failure:
    try:
        action()
    except psycopg.IntegrityError as error:
        expect(error.sqlstate == _FOREIGN_KEY, "the foreign key fails")
        return Failure(what, str(error.sqlstate), error.diag.message_primary or "")
    raise DemoFailedError(f"a step of the demo had an unexpected result: {what!r} did not fail")


def _rejected(what: str, action: Callable[[], Any]) -> Events:
    """The auth server's response, and the error in the database's log."""
    try:
        action()
    except GoTrueError as error:
        expect(error.sqlstate == _NOT_NULL, "the sign-up fails because of the new column")
        yield Failure(what, str(error.status), error.message)
        cause = error.__cause__.diag.message_primary if isinstance(error.__cause__, psycopg.Error) else ""
        yield Failure("The cause, in the database's log", str(error.sqlstate), cause or "")
        return
    raise DemoFailedError(f"a step of the demo had an unexpected result: {what!r} did not fail")
