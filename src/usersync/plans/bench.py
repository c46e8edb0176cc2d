"""What usersync adds to a sign-up, a sign-in and an audited write in a database, as PostgreSQL tells it.

``EXPLAIN ANALYZE`` runs a statement and says how long it took and how much of that each trigger did. So both
sides come from one and the same statement, no trigger has to be switched off, and no privilege is needed
but that of the statement. What queueing a trigger's event takes counts as the statement's own. Everything
runs in short transactions, each of which is rolled back.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from usersync.errors import BusyError, ConflictError, DatabaseError, PrivilegeMissingError, UsersyncError
from usersync.mapping import TableName, quote
from usersync.plans.pages import ran_out_of_time
from usersync.plans.tracking import plan_track
from usersync.plans.tracking_state import TrackOptions
from usersync.transports.steps import BEGIN, ROLLBACK, Plan, query, query_row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from usersync.plans.bench_surroundings import Surroundings
    from usersync.settings import Settings

T = TypeVar("T")

#: Of each kind, before any counts: a server process reads and plans a function when it first runs it.
WARM_UPS = 3
#: Events in a batch.
BATCH = 20
#: Rows that a round writes and takes back: 3 of the auth server's table, 2 mirrored, events, a tracked one.
ROWS_A_ROUND = 3 + 2 + 1 + BATCH + 2
#: No transaction begins another round after so many seconds; no run does after so many.
_TRANSACTION_S, _RUN_S = 5.0, 60.0
_STATEMENT_S = 5

# The last: where this process is gone and its connection is not, the server ends the transaction.
_LIMITS = f"""
    set local lock_timeout = '1s'; set local statement_timeout = '{_STATEMENT_S}s';
    set local idle_in_transaction_session_timeout = '10s';
"""
_EXPLAIN = "explain (analyze, buffers off, format json) "

_RECORD = "public.record_audit_events(%(events)s::jsonb)"
_WHOLLY_OURS = {"event", "event_of_batch"}

_PROBE = """
    create table {table} (id bigint primary key, name text not null, quantity integer not null, price numeric,
        updated_at timestamptz not null default now());
    insert into {table} select n, 'Bolt ' || n, 10, 0.25 from generate_series(1, {rows}) as n
"""


@dataclass(frozen=True)
class Spread:
    """The median of some times and the quartiles round it, in microseconds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, times: list[float]) -> Spread:
        """Of two times or more."""
        low, _, high = quantiles(times, n=4, method="inclusive")
        return cls(*(round(each, 1) for each in (median(times), low, high)))


@dataclass(frozen=True)
class Operation:
    """One kind of statement: the time it takes in the server, and whose it is, in microseconds.

    Without the commit, and without the way to the server and back.
    """

    name: str
    total: Spread
    #: What the statement takes by itself, foreign keys included; None where all of it is usersync's.
    without: Spread | None
    usersync: Spread
    #: The application's own triggers on the same table.
    others: Spread

    @property
    def share(self) -> float:
        """Which part of the whole is usersync's."""
        return round(self.usersync.median / self.total.median, 3) if self.total.median else 0.0


@dataclass(frozen=True)
class BenchResult:
    """What was measured, and how."""

    rounds: int
    operations: tuple[Operation, ...]
    #: A statement that does nothing, seen from here, in microseconds.
    round_trip: Spread
    #: The longest transaction, in seconds.
    longest_transaction: float
    #: Whom the auth server's statements were sent as; None if it was the connection's own role.
    auth_role: str | None
    other_triggers: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Sample:
    """One statement, in microseconds."""

    total: float
    usersync: float
    others: float = 0.0
    #: Triggers on its table.
    fired: frozenset[str] = frozenset()


@dataclass
class _Bench:
    """What there is so far."""

    around: Surroundings
    new_user: Mapping[str, Any]
    samples: dict[str, list[_Sample]] = field(default_factory=dict)
    round_trips: list[float] = field(default_factory=list)
    longest: float = 0.0
    notes: list[str] = field(default_factory=list)

    def keep(self, samples: Mapping[str, _Sample]) -> None:
        for name, sample in samples.items():
            self.samples.setdefault(name, []).append(sample)


def measure(around: Surroundings, new_user: Mapping[str, Any], *, rounds: int) -> Plan[BenchResult]:
    """Measure, for a minute or so at most, and leave nothing behind but dead rows for autovacuum.

    ``new_user`` is the row that the auth server inserts, by column, but for id, address and times.
    The connection must not be in a transaction. Raises :class:`ConflictError` where usersync does not work,
    and :class:`DatabaseError` where nobody can sign up.
    """
    state = _Bench(around, new_user)
    # First, for it makes a table: where that is forbidden, nobody waits a minute to be told so.
    tracked = yield from _rolled_back(state, _tracked_rounds(around.settings, rounds))
    began = time.perf_counter()
    for number in range(WARM_UPS + rounds):
        first, counts = number == 0, number >= WARM_UPS
        samples = yield from _rolled_back(state, _auth_round(state, first=first))
        sent = time.perf_counter()
        yield from query("select")
        if counts:
            state.round_trips.append((time.perf_counter() - sent) * 1e6)
            state.keep(samples)
        if number > WARM_UPS and time.perf_counter() - began > _RUN_S:
            break
    for sample in tracked:
        state.keep({"tracked_update": sample})
    return _result(state)


def _rolled_back(state: _Bench, body: Plan[T]) -> Plan[T]:
    began = time.perf_counter()
    yield BEGIN
    try:
        yield from query(_LIMITS)
        result = yield from body
    except Exception:
        with suppress(UsersyncError):
            yield ROLLBACK
        raise
    yield ROLLBACK
    state.longest = max(state.longest, time.perf_counter() - began)
    return result


def _auth_round(state: _Bench, *, first: bool) -> Plan[dict[str, _Sample]]:
    """Somebody signs up, confirms the address and signs in; then events of theirs are recorded."""
    around, user, at = state.around, uuid4(), datetime.now(UTC)
    source = _bindable(around.settings.source_table.quoted)
    role = f"set local role {quote(around.auth_role)}; " if around.auth_role else ""
    # As the auth server's own sessions have it: triggers of the application's may rely on it.
    yield from query(f"{role}set local search_path = {quote(around.settings.source_table.schema)}")
    samples = {"sign_up": (yield from _sign_up(state, user, at))}
    for name, column in (("confirmation", "email_confirmed_at"), ("sign_in", "last_sign_in_at")):
        update = f'update {source} set "{column}" = %(at)s, "updated_at" = %(at)s where "id" = %(id)s'
        samples[name] = yield from _as_auth_server(around, "UPDATE of", "sign-in", update, at=at, id=user)
    yield from query("reset role; set local search_path = pg_catalog")
    if first:
        yield from _check(state, samples, user, at)
    samples["event"] = yield from _record([_event(user, at)])
    samples["event_of_batch"] = yield from _record([_event(user, at) for _ in range(BATCH)])
    return samples


def _sign_up(state: _Bench, user: UUID, at: datetime) -> Plan[_Sample]:
    around = state.around
    source = _bindable(around.settings.source_table.quoted)
    row = {name: value for name, value in state.new_user.items() if name in around.columns} | {
        "id": user,
        "email": f"usersync-bench-{user.hex}@example.invalid",
        "created_at": at,
        "updated_at": at,
    }
    values = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()}
    names, places = ", ".join(map(quote, row)), ", ".join(f"%({name})s" for name in row)
    insert = f"insert into {source} ({names}) values ({places})"
    return (yield from _as_auth_server(around, "INSERT into", "sign-up", insert, **values))


def _as_auth_server(around: Surroundings, what: str, whose: str, sql: str, **params: Any) -> Plan[_Sample]:
    """Take the time of a statement of the auth server's; what fails is told as what fails for everybody."""
    try:
        return (yield from _explain(around.ours, sql, **params))
    except (PrivilegeMissingError, BusyError):
        raise
    except DatabaseError as error:
        hint = f"So does every {whose} here, and usersync's triggers raise nothing."
        if ran_out_of_time(error):
            hint = f"No statement may take longer than {_STATEMENT_S} s here."
        raise DatabaseError(
            f"the auth server's {what} {around.settings.source_table} fails: {error}",
            hint=hint + _named_others(around),
            sqlstate=error.sqlstate,
        ) from error


def _named_others(around: Surroundings) -> str:
    return f" Triggers of the application's on it: {', '.join(around.others)}." if around.others else ""


def _check(state: _Bench, samples: Mapping[str, _Sample], user: UUID, at: datetime) -> Plan[None]:
    """Whether what is measured is what usually happens."""
    yield from _check_row(state, user)
    for name, what in (("sign_up", "INSERT into"), ("confirmation", "UPDATE of")):
        if not samples[name].fired & state.around.ours:
            raise ConflictError(
                f"usersync's trigger did not fire on the auth server's {what} "
                f"{state.around.settings.source_table}",
                hint="There is nothing to measure until it does. Run: usersync doctor",
            )
    refused = yield from query("select sqlstate from usersync.sync_failures where user_id = %(id)s", id=user)
    if refused:
        state.notes.append(
            f"The users table refuses who signs up (SQLSTATE {refused[0]['sqlstate']}), so this is what a "
            "sign-up costs that goes to the ledger. Run: usersync doctor"
        )
    events = json.dumps([_event(user, at)])
    answer = (yield from query_row(f"select {_RECORD} as answer", events=events))["answer"]
    if answer["stored"] != 1:
        reasons = [each["reason"] for each in answer.get("rejects") or ()]
        raise ConflictError(
            f"{state.around.settings.audit_table} takes no event: {', '.join(reasons) or 'it vanished'}",
            hint="There is nothing to measure until it does. Run: usersync doctor",
        )


def _check_row(state: _Bench, user: UUID) -> Plan[None]:
    """A statement whose row a trigger has left out succeeds, and nothing is left for us to do."""
    table = state.around.settings.source_table
    kept = yield from query(
        'select "email_confirmed_at" is not null and "last_sign_in_at" is not null as signed_in '
        f'from {_bindable(table.quoted)} where "id" = %(id)s',
        id=user,
    )
    if not kept or not kept[0]["signed_in"]:
        what = "UPDATE of" if kept else "INSERT into"
        raise ConflictError(
            f"the auth server's {what} {table} succeeds, and the row is as before",
            hint="A trigger that returns null leaves it out, and so nothing is left for usersync to do."
            + _named_others(state.around),
        )


def _event(user: UUID, at: datetime) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "occurred_at": at.isoformat(),
        "action": "bench.measured",
        "actor_id": str(user),
        "entity_type": "product",
        "entity_id": "42",
        "changes": {"quantity": [10, 7], "name": ["Bolt", "Hex bolt"]},
        "metadata": {"measured_by": "usersync bench"},
        "request_id": "usersync-bench",
    }


def _bindable(sql: str) -> str:
    return sql.replace("%", "%%")


def _record(events: list[dict[str, Any]]) -> Plan[_Sample]:
    """One call for all of them; the time of each."""
    sample = yield from _explain(frozenset(), f"select {_RECORD}", events=json.dumps(events))
    each = sample.total / len(events)
    return _Sample(each, each)


def _tracked_rounds(settings: Settings, rounds: int) -> Plan[list[_Sample]]:
    """Updates of one row each in a table that is made for it, tracked, and gone with the transaction."""
    table = TableName("public", f"usersync_bench_{uuid4().hex}")
    yield from query("set local search_path = pg_catalog")
    yield from query(_PROBE.format(table=table.quoted, rows=WARM_UPS + rounds))
    planned = yield from plan_track(settings, str(table), TrackOptions(), lambda _: False)
    for change in planned.changes:
        yield from query(change.sql)
    update = (
        f"update {table.quoted} set quantity = quantity - 3, updated_at = clock_timestamp() where id = %(id)s"
    )
    samples: list[_Sample] = []
    began = time.perf_counter()
    for number in range(1, WARM_UPS + rounds + 1):
        sample = yield from _explain(None, update, id=number)
        if number > WARM_UPS:
            samples.append(sample)
        if number > WARM_UPS + 1 and time.perf_counter() - began > _TRANSACTION_S:
            break
    return samples


def _explain(ours: frozenset[str] | None, sql: str, **params: Any) -> Plan[_Sample]:
    """Run a statement and take its time apart; without ``ours``, every trigger is."""
    found = (yield from query_row(_EXPLAIN + sql, **params))["QUERY PLAN"][0]
    mine = theirs = 0.0
    fired = set()
    for trigger in found.get("Triggers", ()):
        # Those of foreign keys are the table's own.
        if "Constraint Name" in trigger and trigger["Trigger Name"].startswith("RI_ConstraintTrigger_"):
            continue
        fired.add(trigger["Trigger Name"])
        if ours is None or trigger["Trigger Name"] in ours:
            mine += trigger["Time"] * 1e3
        else:
            theirs += trigger["Time"] * 1e3
    # Planning is left out: with prepared statements it is not done each time, and it is no trigger's.
    total = found["Execution Time"] * 1e3
    return _Sample(total, mine, theirs, frozenset(fired))


def _result(state: _Bench) -> BenchResult:
    return BenchResult(
        rounds=len(state.round_trips),
        operations=tuple(_operation(name, samples) for name, samples in state.samples.items()),
        round_trip=Spread.of(state.round_trips),
        longest_transaction=round(state.longest, 3),
        auth_role=state.around.auth_role,
        other_triggers=state.around.others,
        notes=(*state.around.notes, *state.notes),
    )


def _operation(name: str, samples: list[_Sample]) -> Operation:
    return Operation(
        name,
        Spread.of([each.total for each in samples]),
        None
        if name in _WHOLLY_OURS
        else Spread.of([each.total - each.usersync - each.others for each in samples]),
        Spread.of([each.usersync for each in samples]),
        Spread.of([each.others for each in samples]),
    )
