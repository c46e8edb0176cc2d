"""The story, in steps. Each does what it tells, on a real server, and checks that it turned out so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import psycopg

from usersync.audit import reading
from usersync.audit.spool.listing import survey_spools
from usersync.cli.apply import done_line
from usersync.cli.audit.history import HistoryView
from usersync.cli.audit.spool import SpoolView
from usersync.cli.demo.events import Event, Facts, Ran, Refused, Rows, Said, Typed, Worked
from usersync.cli.demo.stage import SETTINGS, DemoFailedError, Stage, expect
from usersync.cli.failures import failure_lines
from usersync.cli.status import StatusView
from usersync.cli.sync_view import SyncView
from usersync.cli.text import bad, plain, wrap
from usersync.gotrue import GoTrueError
from usersync.schema import installation
from usersync.transports.run import run

if TYPE_CHECKING:
    from usersync.models import SyncResult

Events = Iterator[Event]
Step = tuple[str, Callable[[Stage, int], Events]]

_FOREIGN_KEY, _NOT_NULL = "23503", "23502"
_STOCK = 10

#: How much an answer of a command is indented.
_ANSWER_INDENT = 2

# The rows that are there get a value, as a careful migration would give them one.
_BREAK = (
    "alter table public.users add column team text not null default 'founders'",
    "alter table public.users alter column team drop default",
)


def a_user_without_a_row(stage: Stage, _: int) -> Events:
    stage.script("inventory/schema.sql")
    stage.rows("insert into public.products (name, stock) values ('bolt M8', 10)")
    yield Said("An inventory application. Its audit log refers to its own table of users:")
    yield Ran("audit_logs.user_id uuid references public.users (id)")
    stage.people["Ada"] = stage.auth.admin_create("ada@example.com", user_metadata={"full_name": "Ada"})
    there, here = stage.counts()
    expect((there, here) == (1, 0), "Ada is in auth.users and not in public.users")
    yield Worked("Ada is created in the auth dashboard", f"auth.users: {there}, public.users: {here}")
    yield _refused("Ada takes 3 bolts from the stock", lambda: stage.take_bolts("Ada", 3))
    expect(stage.stock == _STOCK, "the stock is unchanged")
    yield Said(f"The whole operation is lost with its audit row: the stock is still {stage.stock}.")


def the_usual_cure(stage: Stage, width: int) -> Events:
    stage.script("recipe.sql")
    yield Said("The trigger that everybody pastes:")
    yield Ran("create trigger on_auth_user_created … execute function handle_new_user()")
    stage.people["Grace"] = stage.auth.sign_up_email("grace@example.com", data={"full_name": "Grace"})
    expect(stage.counts()[1] == 1, "the trigger makes a row")
    yield Worked("Grace signs up", "and has a row in public.users")
    yield Said("It does nothing for Ada. And one day somebody changes the table:")
    yield from _break(stage)
    yield from _rejected("Linus tries to sign up", lambda: stage.auth.sign_up_email("linus@example.com"))
    yield Said("Nobody can sign up now. The column goes again, and usersync has a look:")
    stage.rows("alter table public.users drop column team")
    planned = run(installation.plan(SETTINGS, adopt=True), stage.owner)
    replaced = [each for each in planned.changes if each.kind == "drop"]
    expect(len(replaced) == 1 and not planned.errors, "plan --adopt replaces the hand-written trigger")
    answer = f"{replaced[0].subject}: {replaced[0].reason}"
    yield _typed("usersync plan --adopt", wrap(plain(answer), width - _ANSWER_INDENT, first=bad("- ")))


def the_installation(stage: Stage, width: int) -> Events:
    planned = run(installation.plan(SETTINGS, adopt=True), stage.owner)
    expect(planned.changes and not planned.errors, "nothing stands in the way")
    applied = run(installation.apply(SETTINGS, adopt=True), stage.owner)
    expect(applied.changes == planned.changes, "apply does what plan says")
    result = stage.client.reconcile()
    expect((result.counts.missing, result.errors) == (1, 0), "Ada is the one who was missing")
    yield Said("What the plan shows is then done; 'usersync rollback' restores the trigger:")
    yield _typed("usersync apply --adopt", [done_line(applied.changes), *_synced(stage, result, width)])
    yield Said("Ada had no row. Grace's was there, and incomplete: the trigger copies two columns.")
    people = "select email, full_name, is_anonymous from public.users order by email"
    yield Rows("public.users", stage.rows(people))
    expect(not run(installation.plan(SETTINGS), stage.owner).changes, "a second apply has nothing to do")


def sign_ups(stage: Stage, _: int) -> Events:
    stage.people |= {
        "e-mail": stage.auth.sign_up_email(
            "linus@example.com", data={"full_name": "Linus"}, autoconfirm=False
        ),
        "Google": stage.auth.sign_up_oauth("google", "margaret@example.com", name="Margaret"),
        "anonymous": stage.auth.sign_up_anonymous(),
        "admin API": stage.auth.admin_create("alan@example.com", user_metadata={"full_name": "Alan"}),
    }
    rows = [
        {"signed up by": how} | stage.rows(_ARRIVED, stage.people[how])[0]
        for how in ("e-mail", "Google", "anonymous", "admin API")
    ]
    expect(all(row["same transaction"] for row in rows), "each row came in the sign-up's transaction")
    yield Said("Four ways to sign up. Each row arrives in the transaction of the sign-up:")
    yield Rows("public.users", rows)


_ARRIVED = """
    select here.email, here.full_name,
        pg_xact_commit_timestamp(here.xmin) = pg_xact_commit_timestamp(there.xmin) as "same transaction"
    from auth.users as there join public.users as here using (id) where id = %s
"""


def the_audit_log(stage: Stage, _: int) -> Events:
    stage.use_audit_log()
    stage.take_bolts("Ada", 3)
    yield Said("The inventory records with usersync now, and into the same table:")
    yield Ran('audit.record_in(connection, "stock.adjusted", entity=("product", 1), …)')
    yield Worked("Ada takes 3 bolts from the stock: the operation that failed")
    stage.people["Alan"] = stage.people["admin API"]
    stage.rows("delete from public.users where id = %s", stage.people["Alan"])
    stage.take_bolts("Alan", 2)
    logged = stage.rows(_LOGGED)
    expect([row["email"] for row in logged] == ["ada@example.com", "alan@example.com"], "both are named")
    expect(stage.stock == _STOCK - 5, "both operations are done")
    yield Worked(
        "Somebody deletes Alan's row by hand, and Alan takes 2 bolts",
        "His row is made anew in the same transaction. The audit log has:",
    )
    yield Rows("public.audit_logs", logged)


_LOGGED = """
    select audit_logs.action, audit_logs.changes ->> 'stock' as stock, users.email
    from public.audit_logs join public.users on users.id = audit_logs.user_id
    order by audit_logs.created_at
"""


def the_broken_schema(stage: Stage, width: int) -> Events:
    yield Said("The same change to the table as before:")
    yield from _break(stage)
    stage.people["Barbara"] = stage.auth.sign_up_email("barbara@example.com", data={"full_name": "Barbara"})
    yield Worked("Barbara signs up", "The sign-up succeeds. Her row could not be made, and this is why:")
    found = stage.client.failures()
    expect(
        [(each.user_id, each.sqlstate, each.column) for each in found]
        == [(stage.people["Barbara"], _NOT_NULL, "team")],
        "the failures table names Barbara and the column",
    )
    yield _typed("usersync failures", failure_lines(found[0], width - _ANSWER_INDENT))
    stage.take_bolts("Barbara", 1)
    event = stage.rows(_UNRESOLVED)[0]
    expect(event["original_user_id"] == str(stage.people["Barbara"]), "the event knows that it was Barbara")
    yield Worked("Barbara takes a bolt", "It is recorded without the link, with her id and the reason:")
    yield Facts("public.audit_logs", event)
    yield from _repair(stage, width)


def _repair(stage: Stage, width: int) -> Events:
    repair = "alter table public.users alter column team set default 'unassigned'"
    stage.rows(repair)
    yield Said("The repair:")
    yield Ran(repair)
    result = stage.client.reconcile()
    expect((result.synced, result.errors) == (1, 0), "Barbara is brought in line")
    expect(not stage.client.failures(), "the failures table is empty")
    yield _typed("usersync sync", _synced(stage, result, width))


_UNRESOLVED = """
    select action, user_id, metadata ->> 'original_user_id' as original_user_id,
        metadata ->> 'user_sync_error' as user_sync_error
    from public.audit_logs where metadata ? 'user_sync_error'
"""


def the_outage(stage: Stage, width: int) -> Events:
    stage.stop_server()
    yield Worked("The database is stopped")
    began = time.perf_counter()
    ids = stage.count_bolts("Grace", _SCANS)
    took = time.perf_counter() - began
    expect(len(set(ids) - {None}) == _SCANS, "every event is accepted")
    yield Worked(
        f"Grace counts the shelf: audit.record(…), {_SCANS} times in {took * 1000:.0f} ms",
        "None fails, none waits. They are in the spool, a file that a kill -9 leaves whole:",
    )
    spool = SpoolView(stage.spool_dir, tuple(survey_spools(stage.spool_dir)))
    expect(sum(each.waiting for each in spool.surveys) == _SCANS, "all of them wait")
    yield _typed("usersync audit spool", spool.lines(width - _ANSWER_INDENT))
    stage.start_server()
    expect(stage.audit.flush(timeout=30), "they are delivered")
    stored = stage.rows(_STORED, [each for each in ids if each])[0]
    expect(stored == {"events": _SCANS, "ids": _SCANS}, "each arrived once")
    yield Worked("The database is back", f"All {_SCANS} are in the audit log, each exactly once.")


_SCANS = 500
_STORED = """
    select count(*) as events, count(distinct id) as ids from public.audit_logs where id = any(%s::uuid[])
"""


def the_deletion(stage: Stage, width: int) -> Events:
    stage.auth.hard_delete(stage.people["Ada"])
    yield Worked("Ada is deleted in the auth dashboard", "Her personal data goes, her id stays:")
    row = stage.rows(_TOMBSTONE, stage.people["Ada"])[0]
    expect(row["email"] is None and row["deleted"], "Ada's row is anonymised")
    yield Rows("public.users", [row])
    entries, _ = run(reading.history("product", "1"), stage.owner)
    takers = [entry.event.actor_id for entry in entries]
    expect(takers == [str(stage.people[name]) for name in ("Ada", "Alan", "Barbara")], "all three are named")
    yield Said("The audit log still says who took the bolts:")
    view = HistoryView("product/1", entries, None, stage.target)
    yield _typed("usersync audit history product/1", view.lines(width - _ANSWER_INDENT))


_TOMBSTONE = """
    select id, email, full_name, deleted_at is not null as deleted from public.users where id = %s
"""


def the_truth(stage: Stage, width: int) -> Events:
    status = stage.client.status()
    expect(status.in_step, "everything is in sync")
    yield _typed("usersync status", StatusView(status, stage.target).lines(width - _ANSWER_INDENT))


STEPS: tuple[Step, ...] = (
    ("The problem: a user without a row", a_user_without_a_row),
    ("The usual cure, and what it does to sign-ups", the_usual_cure),
    ("The installation", the_installation),
    ("Sign-ups", sign_ups),
    ("The operation that failed, and a user without a row", the_audit_log),
    ("The schema breaks, and is repaired", the_broken_schema),
    ("The database goes away", the_outage),
    ("A user leaves", the_deletion),
    ("The truth about both tables", the_truth),
)


def _break(stage: Stage) -> Events:
    for statement in _BREAK:
        stage.rows(statement)
        yield Ran(statement)


def _synced(stage: Stage, result: SyncResult, width: int) -> list[str]:
    return list(SyncView(result, stage.target).lines(width - _ANSWER_INDENT))


def _typed(command: str, answer: Iterable[str]) -> Typed:
    return Typed(command, tuple(answer))


def _refused(what: str, action: Callable[[], Any]) -> Refused:
    try:
        action()
    except psycopg.IntegrityError as error:
        expect(error.sqlstate == _FOREIGN_KEY, "the foreign key fails")
        return Refused(what, str(error.sqlstate), error.diag.message_primary or "")
    raise DemoFailedError(f"the demo did not turn out as told: {what!r} was to fail")


def _rejected(what: str, action: Callable[[], Any]) -> Events:
    """What the auth server answers, and the error in its log."""
    try:
        action()
    except GoTrueError as error:
        expect(error.sqlstate == _NOT_NULL, "the sign-up fails for the new column")
        yield Refused(what, str(error.status), error.message)
        cause = error.__cause__.diag.message_primary if isinstance(error.__cause__, psycopg.Error) else ""
        yield Refused("behind it, in the log of the database", str(error.sqlstate), cause or "")
        return
    raise DemoFailedError(f"the demo did not turn out as told: {what!r} was to fail")
