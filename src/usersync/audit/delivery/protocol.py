"""One query and its answer over libpq's non-blocking interface: with a deadline, and harmless to forks.

What libpq's own time-outs do not cover is a connection that is open and silent: a proxy or a firewall that
takes the data and passes nothing on. And a blocking call would keep the gate shut while it waits.
"""

from __future__ import annotations

import select
import selectors
import time
from typing import TYPE_CHECKING

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus

from usersync.errors import redact_message
from usersync.transports.gate import gate

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

_OK = {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}

#: What a batch can be refused for because of an event in it: data exceptions and limits, constraints, an
#: exception that somebody's trigger raises, an internal error. Everything else is the database's state.
DATA = ("0A", "21", "22", "23", "27", "44", "54", "P0", "XX000")


class UnavailableError(Exception):
    """The database does not take events at the moment; it may later."""

    #: So many seconds it asks not to be asked again.
    wait: float = 0.0


class StuckError(UnavailableError):
    """The database answers, and will not take this batch at the moment, for whatever reason it gives."""


class TooSlowError(StuckError):
    """The batch was not done in time; a smaller one may be."""


class LockedError(StuckError):
    """Somebody else is in the way, which passes."""


class RefusedError(Exception):
    """The database refused the batch for what is in it."""


#: What an SQLSTATE means; any other says that the database is stuck.
_KINDS: tuple[tuple[type[Exception], tuple[str, ...]], ...] = (
    (TooSlowError, ("57014",)),
    (RefusedError, DATA),
    (psycopg.OperationalError, ("08", "57P0")),
    # A full disk, no connection left, an error of the server's own files: of no event's making. The smallest
    # event may get through even then, where there is room on a page.
    (UnavailableError, ("53100", "53300", "58")),
    # A lock, a deadlock, a serialization failure.
    (LockedError, ("55P03", "40P01", "40001")),
)


def exchange(pgconn: PGconn, deadline: float, query: bytes, param: bytes | None = None) -> PGresult:
    """Send one query and return its last result, by the deadline."""
    with gate:
        if param is None:
            pgconn.send_query(query)
        else:
            pgconn.send_query_params(query, [param])
    while _has_more_to_send(pgconn):
        _wait(pgconn, deadline, writing=True)
        _receive(pgconn)
    last: PGresult | None = None
    failed: PGresult | None = None
    while True:
        while pgconn.is_busy():
            _wait(pgconn, deadline, writing=False)
            _receive(pgconn)
        result = pgconn.get_result()
        if result is None:
            break
        last = result
        if failed is None and result.status not in _OK:
            failed = result
    if failed is not None or last is None:
        raise _explain(failed)
    return last


def _has_more_to_send(pgconn: PGconn) -> bool:
    with gate:
        return bool(pgconn.flush())


def _receive(pgconn: PGconn) -> None:
    with gate:
        pgconn.consume_input()


def _wait(pgconn: PGconn, deadline: float, *, writing: bool) -> None:
    remaining = deadline - time.monotonic()
    with _selector() as selector:
        selector.register(pgconn.socket, selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0))
        if remaining <= 0 or not selector.select(remaining):
            raise TooSlowError("no answer from the database in time")


def _selector() -> selectors.BaseSelector:
    """poll() needs no descriptor of its own; eventlet takes it away, and epoll as well."""
    return selectors.PollSelector() if hasattr(select, "poll") else selectors.SelectSelector()


def _explain(result: PGresult | None) -> Exception:
    if result is None:
        return psycopg.OperationalError("the connection was closed")
    state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
    message = one_line((result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace"))
    if not state:
        return psycopg.OperationalError(one_line(result.error_message.decode(errors="replace")))
    return kind_of(state)(f"{redact_message(state, message)} ({state}){_ADVICE.get(state, '')}")


def kind_of(state: str) -> type[Exception]:
    """What an SQLSTATE means."""
    return next((kind for kind, states in _KINDS if state.startswith(states)), StuckError)


_ADVICE = dict.fromkeys(
    # An undefined function, table or type.
    ("42883", "42P01", "42704"),
    ". Events are kept up to the spool's limit. Is the audit log installed here? Run: usersync apply",
) | {"US301": ". Events are kept up to the spool's limit"}


def one_line(text: str) -> str:
    """A message without its line breaks, and not too long."""
    return " ".join(text.split())[:500]
