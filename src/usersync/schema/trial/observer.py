"""Try the flows on a database, each in a transaction that is rolled back, and observe their effects."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg

from usersync.errors import ConnectionFailedError, UsersyncError
from usersync.gotrue import GoTrueError
from usersync.models import Finding
from usersync.schema.trial import leftovers
from usersync.schema.trial.environment import TrialEnvironment, keys_in_triggers, prepare
from usersync.schema.trial.faults import fault_of
from usersync.schema.trial.flows import FLOWS, Flow, Keys, Person, events_of, flows_before, make_person
from usersync.schema.trial.observation import (
    Fault,
    MovedSequence,
    Observation,
    RowOutcome,
    RowSeen,
    TableSeen,
    Trial,
)
from usersync.schema.trial.placeholders import METADATA, TIMES, Placeholders, merged
from usersync.schema.trial.rights import lacking_rights
from usersync.schema.trial.rows import User, describe, minus, rows_of, written_tables
from usersync.schema.trial.session import TrialSession, configure
from usersync.transports.run import run, translate
from usersync.transports.steps import query_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from usersync.config.settings import Settings
    from usersync.schema.trial.rows import Counts, Found, Table
    from usersync.transports.steps import Steps

#: After this time, no further flow starts.
MOST_SECONDS = 60.0

_SHORT = configure(search_path="pg_catalog").encode()
#: A lock that could not be acquired, a time-out, a deadlock: another session blocks.
_BUSY = ("55P03", "57014", "40P01")

#: The maximum number of attempts to begin a transaction.
_MOST_WAITS = 5

#: The keys that identity providers and sign-up forms usually send.
_USUAL_KEYS = ("full_name", "name")


# The trial ends a pause of usersync. This is rolled back, like the rest of the trial.
_MAY_UNPAUSE = "select coalesce(has_table_privilege(to_regclass('usersync.pause'), 'delete'), false) as may"
_UNPAUSE = "delete from usersync.pause"


def observe(
    connection: psycopg.Connection[Any],
    settings: Settings,
    *,
    flows: Iterable[str] = tuple(FLOWS),
    call_out: bool = False,
    times: int = 2,
    first: Sequence[str] = (),
    metadata_keys: Mapping[str, tuple[str, ...]] | None = None,
    row_outcome: Callable[[UUID], Steps[RowOutcome]] | None = None,
) -> Trial:
    """Try the flows, roll each of them back, and return the observations. Blocks.

    The connection must be in autocommit mode and in no transaction. Each flow is tried ``times`` times, each
    time with another user, to distinguish constants from values that vary. Each transaction begins with the
    statements ``first``. A flow with effects that a rollback does not undo is tried only with ``call_out``. A
    flow that waits too long is not tried. ``metadata_keys`` are those of an earlier trial. ``row_outcome``
    returns the state of a user's row.

    Raises ``UsersyncError`` only if the connection is lost.
    """
    started = time.monotonic()
    observer = Observer(connection, tuple(first), dict(metadata_keys or {}), row_outcome)
    try:
        found = observer.prepare(settings)
        if found.obstacle is None:
            found = _tried(observer, found, [FLOWS[name] for name in flows], call_out=call_out, times=times)
    except (psycopg.Error, UsersyncError) as error:
        if connection.closed or isinstance(error, ConnectionFailedError):
            raise (translate(error) if isinstance(error, psycopg.Error) else error) from error
        why = Finding(
            "D033",
            "trial",
            f"the trial was not finished: {error}",
            "-- Try again when the database is less busy.",
        )
        found = Trial(obstacle=why)
    return replace(found, seconds=time.monotonic() - started)


def variants(named: Mapping[str, Sequence[str]], *, usual_first: bool) -> tuple[Keys, ...]:
    """The metadata keys to try, in this order, until a sign-up is accepted.

    A trigger may require a key, or accept only a number as its value. All keys that triggers name show more
    effects. The usual keys depend less on invented values.
    """
    user, app = tuple(named["raw_user_meta_data"]), tuple(named["raw_app_meta_data"])
    every = Keys(tuple(dict.fromkeys((*_USUAL_KEYS, *user))), app)
    usual = Keys(_USUAL_KEYS)
    return tuple(dict.fromkeys((usual, every, Keys()) if usual_first else (every, usual, Keys())))


def _missing_rights(settings: Settings, environment: TrialEnvironment) -> Steps[tuple[Finding, ...]]:
    """Missing rights of the auth server's role, if the trial cannot use this role."""
    if environment.may_assume or not environment.auth_role:
        return ()
    return (yield from lacking_rights(settings))


def _tried(observer: Observer, found: Trial, flows: Sequence[Flow], *, call_out: bool, times: int) -> Trial:
    connection = observer.connection
    before = run(leftovers.sequences(), connection)
    locks = run(leftovers.advisory_locks(), connection)
    deadline = time.monotonic() + MOST_SECONDS
    observations = {}
    for flow in flows:
        missing = observer.missing(flow)
        lasting = None if missing or call_out else observer.lasting(flow)
        reason = missing or lasting
        if reason is None and time.monotonic() > deadline:
            reason = f"the trial has taken {MOST_SECONDS:.0f} s already"
        seen = observer.observe(flow, times) if reason is None else not_tried(flow, reason)
        observations[flow.name] = replace(seen, not_needed=missing is not None, lasts=lasting is not None)
        run(leftovers.release_advisory_locks(locks), connection)
    moved = tuple(_moved(connection, before))
    return replace(found, observations=observations, moved=moved, metadata_keys=observer.keys_used)


def _moved(connection: psycopg.Connection[Any], before: Mapping[str, Any]) -> Iterator[MovedSequence]:
    for name, now in run(leftovers.sequences(), connection).items():
        if name in before and before[name]["value"] == now["value"]:
            continue
        try:
            moved = run(leftovers.drawn_from(before, name, now), connection)
        except ConnectionFailedError:
            raise
        except UsersyncError:
            continue  # another session used it
        if moved is not None:
            yield moved


def not_tried(flow: Flow, reason: str, blocked_by: str | None = None) -> Observation:
    """The observation of a flow that was not tried."""
    return Observation(flow.name, flow.kind, "not tried", reason, blocked_by)


class _NotTriedError(Exception):
    """A flow cannot be tried. ``blocked_by`` is the flow before it that fails, if any."""

    def __init__(self, reason: str, blocked_by: str | None = None) -> None:
        super().__init__(reason)
        self.blocked_by = blocked_by


@dataclass
class _Snapshot:
    """The rows that a transaction has written, and a user's rows."""

    counts: Mapping[int, Counts]
    rows: Found
    auth_row: Mapping[str, Any]
    now: str


class Observer:
    """Tries flows one by one."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        first: tuple[str, ...],
        keys_used: dict[str, tuple[str, ...]],
        row_outcome: Callable[[UUID], Steps[RowOutcome]] | None,
    ) -> None:
        self.connection = connection
        self.keys_used = keys_used
        self.row_outcome = row_outcome
        self._first = first
        self._may_unpause = False
        self._environment = TrialEnvironment()
        self._variants: tuple[Keys, ...] = ()
        self._tables: dict[int, Table] = {}

    def prepare(self, settings: Settings) -> Trial:
        """Inspect the environment of the trial. The result has an obstacle if nothing can be tried."""
        with self.connection.transaction(force_rollback=True):
            self.connection.execute(_SHORT)
            environment = self._environment = run(prepare(settings), self.connection)
            lacking = run(_missing_rights(settings, environment), self.connection)
            named = run(keys_in_triggers(settings), self.connection)
            self._may_unpause = run(query_row(_MAY_UNPAUSE), self.connection)["may"]
        self._variants = variants(named, usual_first=self.row_outcome is not None)
        lasting = tuple(map(str, environment.lasting))
        return Trial(
            {},
            environment.auth_role,
            environment.tried_as,
            lacking=lacking,
            lasting=lasting,
            obstacle=environment.obstacle,
        )

    def missing(self, flow: Flow) -> str | None:
        """Why this auth server does not support the flow, or None."""
        names = [name for name in flow.needs if name not in self._environment.tables["users"]]
        return f"this auth server has no column {', '.join(names)} yet" if names else None

    def lasting(self, flow: Flow) -> str | None:
        """An effect of the flow that a rollback would not undo, or None."""
        for each in self._environment.lasting:
            if events_of(flow) & each.events:
                return f"{each}, and a rollback does not undo that"
        return None

    def observe(self, flow: Flow, times: int) -> Observation:
        """Try a flow, with other metadata if it is refused, and combine the observations."""
        keys, seen = self._accepted_keys(flow)
        if seen.state != "accepted":
            return seen
        # Without rows there are no values to compare. Rows of requests before the flow count, too.
        for _ in range(times - 1 if _has_rows(seen) else 0):
            again = self._once(flow, keys)
            if again.state == "accepted":
                seen = combined(seen, again)
        return seen

    def _accepted_keys(self, flow: Flow) -> tuple[Keys, Observation]:
        """The first variant with which the flow is accepted, or else the first refusal."""
        refusals: list[tuple[Keys, Observation]] = []
        for keys in self._variants_of(flow):
            seen = self._once(flow, keys)
            if seen.state == "accepted":
                self.keys_used[flow.name] = (*keys.user, *(f"app_metadata.{key}" for key in keys.app))
                return keys, seen
            refusals.append((keys, seen))
            if seen.state == "not tried" and seen.blocked_by is None:
                break
        return refusals[0]

    def _variants_of(self, flow: Flow) -> tuple[Keys, ...]:
        known = self.keys_used.get(flow.name)
        if known is None:
            return self._variants
        app = tuple(key.removeprefix("app_metadata.") for key in known if key.startswith("app_metadata."))
        return (Keys(tuple(key for key in known if not key.startswith("app_metadata.")), app),)

    def _once(self, flow: Flow, keys: Keys) -> Observation:
        try:
            with self.connection.transaction(force_rollback=True):
                self.begin()
                return _Attempt(self, flow, keys).made()
        except _NotTriedError as reason:
            return not_tried(flow, str(reason), reason.blocked_by)
        except (psycopg.Error, UsersyncError) as error:
            if self.connection.closed or isinstance(error, ConnectionFailedError):
                raise
            return not_tried(flow, f"it could not be observed: {error}")

    def begin(self) -> None:
        """Begin a transaction's work. Waits at most half a second for a lock."""
        if not self._first and not self._may_unpause:
            self.connection.execute(_SHORT)
            return
        for number in range(_MOST_WAITS):
            try:
                with self.connection.transaction():
                    self.connection.execute(_SHORT)
                    if self._may_unpause:
                        self.connection.execute(_UNPAUSE)
                    if self._first:
                        # One message: the first trigger locks the auth server's table.
                        statements = ("set local lock_timeout = '500ms'", *self._first)
                        self.connection.execute("\n;\n".join(statements).encode())
            except psycopg.errors.LockNotAvailable as error:
                if number + 1 == _MOST_WAITS:
                    raise _NotTriedError(_busy(error)) from error
            else:
                self.connection.execute(_SHORT)
                return

    def describe(self, ids: Iterable[int]) -> Sequence[Table]:
        """The tables with these ids; each is queried only once."""
        wanted = set(ids)
        if unknown := wanted - self._tables.keys():
            self._tables |= run(describe(unknown), self.connection)
        return [self._tables[each] for each in sorted(wanted) if each in self._tables]

    def session(self) -> TrialSession:
        return TrialSession(self.connection, self._environment)


class _Attempt:
    """One flow with one user, in an open transaction."""

    def __init__(self, observer: Observer, flow: Flow, keys: Keys) -> None:
        self._observer = observer
        self._connection = observer.connection
        self._flow = flow
        self._keys = keys
        self._auth = observer.session()

    def made(self) -> Observation:
        baseline = run(written_tables(), self._connection)
        person = self._prepare()
        before = self._look(person, baseline)
        self._auth.recorder.sent.clear()
        try:
            with self._connection.transaction():
                self._flow.act(self._auth, person)
        except (GoTrueError, psycopg.Error) as error:
            return self._refused(error)
        return self._seen(person, before, self._look(person, baseline))

    def _prepare(self) -> Person:
        """Send the requests before the flow, and return the flow's user."""
        email = None
        if self._flow.address_of is not None:
            other = FLOWS[self._flow.address_of]
            first = make_person(self._keys)
            email = first.email
            self._make((*flows_before(other), other), first)
        person = make_person(self._keys, email=email)
        self._make(flows_before(self._flow), person)
        return person

    def _make(self, flows: Sequence[Flow], person: Person) -> None:
        for flow in flows:
            try:
                flow.act(self._auth, person)
            except (GoTrueError, psycopg.Error) as error:
                if self._connection.closed:
                    raise
                raise _NotTriedError(f"it requires: {flow.name}, which fails", flow.name) from error

    def _look(self, person: Person, baseline: Mapping[int, Counts]) -> _Snapshot:
        counts = minus(run(written_tables(), self._connection), baseline)
        user = User(str(person.id), (person.email, person.phone, person.other_email), person.token)
        rows = run(rows_of(user, self._observer.describe(counts)), self._connection)
        row = run(query_row(_AUTH_ROW, id=person.id), self._connection)
        return _Snapshot(counts, rows, row["row"] or {}, row["now"])

    def _seen(self, person: Person, before: _Snapshot, after: _Snapshot) -> Observation:
        words = Placeholders(person, before.auth_row, after.auth_row, after.now)
        written = minus(after.counts, before.counts)
        tables = {
            table.name: TableSeen(
                table.name,
                *written.get(table.id, (0, 0, 0)),
                rows=_compared(table, before.rows.get(table.id), after.rows.get(table.id), words),
            )
            for table in self._observer.describe(after.counts)
        }
        own = [_own_columns(row) if row else None for row in (before.auth_row, after.auth_row)]
        tables["auth.users"] = TableSeen("auth.users", rows=tuple(_row_seen(own[0], own[1], words)))
        row = self._row_outcome(person.id)
        return Observation(
            self._flow.name,
            self._flow.kind,
            "accepted",
            tables=tables,
            row_state=row.state if row else None,
            row_fault=row.fault if row else None,
            statements=self._statements(),
        )

    def _row_outcome(self, user_id: UUID) -> RowOutcome | None:
        if self._observer.row_outcome is None:
            return None
        try:
            return run(self._observer.row_outcome(user_id), self._connection)
        except ConnectionFailedError:
            raise
        except UsersyncError as error:
            fault = Fault(getattr(error, "sqlstate", None), f"the row could not be read: {error}")
            return RowOutcome("differs", fault)

    def _statements(self) -> tuple[str, ...]:
        return tuple(verb.partition(" ")[0] for verb, table in self._auth.recorder.sent if table == "users")

    def _refused(self, error: GoTrueError | psycopg.Error) -> Observation:
        cause = error.__cause__ if isinstance(error, GoTrueError) else error
        if not isinstance(cause, psycopg.Error):
            raise _NotTriedError(str(error)) from error
        if self._connection.closed:
            raise cause
        if cause.sqlstate in _BUSY:
            raise _NotTriedError(_busy(cause)) from error
        fault = run(fault_of(cause), self._connection)
        sent = self._auth.recorder.sent
        return Observation(
            self._flow.name,
            self._flow.kind,
            "refused",
            fault=fault,
            failed_statement=f"{sent[-1][0]} auth.{sent[-1][1]}" if sent else None,
            statements=self._statements(),
        )


_AUTH_ROW = """
    select to_jsonb(now()) #>> '{}' as now,
        (select to_jsonb(each) from auth.users as each where id = %(id)s) as row
"""


def _busy(cause: psycopg.Error) -> str:
    if cause.sqlstate == "57014":
        return "it took longer than 3 s"
    return f"another session blocked it ({(cause.diag.message_primary or str(cause)).strip()})"


#: Columns of auth.users that an application can read and a trigger may change.
_OWN_COLUMNS = ("id", "email", "phone", "aud", "role", "is_anonymous", "is_sso_user", *METADATA, *TIMES)


def _has_rows(seen: Observation) -> bool:
    return any(table.rows for name, table in seen.tables.items() if name != "auth.users")


def _own_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _OWN_COLUMNS if name in row}


def _compared(
    table: Table,
    before: Sequence[Mapping[str, Any]] | None,
    after: Sequence[Mapping[str, Any]] | None,
    words: Placeholders,
) -> tuple[RowSeen, ...] | None:
    if after is None:
        return None
    then = {_key(table, row): row for row in before or ()}
    now = {_key(table, row): row for row in after}
    seen = [
        row for key in dict.fromkeys((*then, *now)) for row in _row_seen(then.get(key), now.get(key), words)
    ]
    return tuple(sorted(seen, key=_order))


def _row_seen(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, words: Placeholders
) -> Iterator[RowSeen]:
    if after is None:
        if before is not None:
            yield RowSeen("removed", words.of_row(before))
    elif before is None:
        yield RowSeen("made", words.of_row(after))
    else:
        yield RowSeen("kept" if before == after else "changed", words.of_row(after), words.of_row(before))


def _key(table: Table, row: Mapping[str, Any]) -> str:
    return repr([row[name] for name in table.primary_key] if table.primary_key else sorted(row.items()))


def _order(row: RowSeen) -> str:
    """A stable order of rows, by their placeholders."""
    return repr((row.kind, sorted((k, str(v)) for k, v in row.values.items() if "<" in str(v))))


def combined(one: Observation, two: Observation) -> Observation:
    """The combined observations of two users: values that differ become ``<varies>``."""
    tables = dict(one.tables)
    for name, table in one.tables.items():
        other = two.tables.get(name)
        rows = table.rows
        if rows is None or other is None or other.rows is None or len(rows) != len(other.rows):
            continue
        values = merged([row.values for row in rows], [row.values for row in other.rows])
        befores = merged([row.before or {} for row in rows], [row.before or {} for row in other.rows])
        tables[name] = replace(
            table,
            rows=tuple(
                replace(row, values=value, before=before or None)
                for row, value, before in zip(rows, values, befores, strict=True)
            ),
        )
    return replace(one, tables=tables)
