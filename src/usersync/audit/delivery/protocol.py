"""One query and its answer over libpq's non-blocking interface, with a deadline and safe with forks.

libpq's own time-outs do not cover an open but silent connection: a proxy or a firewall that accepts the data
and forwards nothing. And a blocking call would hold the gate while it waits.
"""

from __future__ import annotations

import select
import selectors
import time
from typing import TYPE_CHECKING

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus

from usersync.errors import redact_message
from usersync.transports.fork_gate import gate

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

_OK = {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}

#: SQLSTATEs that an event in the batch may have caused: data exceptions and limits, constraints, an exception
#: raised by a trigger. All others are caused by the state of the database. So is an internal error (XX000): a
#: call during an ``apply`` may fail with "cache lookup failed for function".
DATA = ("0A", "21", "22", "23", "27", "44", "54", "P0")


class UnavailableError(Exception):
    """The database does not accept events at the moment."""

    #: The server asked for no request during so many seconds.
    wait: float = 0.0


class StuckError(UnavailableError):
    """The database answers, but does not accept this batch at the moment."""


class TooSlowError(StuckError):
    """The batch was not stored in time. A smaller one may be."""


class LockedError(StuckError):
    """Another session holds a lock."""


class RefusedError(Exception):
    """The database does not accept the batch because of its content."""


#: What an SQLSTATE means. All others mean StuckError.
_KINDS: tuple[tuple[type[Exception], tuple[str, ...]], ...] = (
    (TooSlowError, ("57014",)),
    (RefusedError, DATA),
    (psycopg.OperationalError, ("08", "57P0")),
    # A full disk, too many connections, an I/O error of the server: not caused by an event. A very small
    # event may succeed even then, if there is room on a page, so the plain event proves nothing.
    (UnavailableError, ("53100", "53300", "58")),
    # A lock, a deadlock, a serialization failure.
    (LockedError, ("55P03", "40P01", "40001")),
)


def exchange(pgconn: PGconn, deadline: float, query: bytes, param: bytes | None = None) -> PGresult:
    """Send one query before the deadline, and return its last result."""
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
    """poll() needs no descriptor of its own. eventlet removes it, and epoll as well."""
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
    """Return the error class for an SQLSTATE."""
    return next((kind for kind, states in _KINDS if state.startswith(states)), StuckError)


_ADVICE = dict.fromkeys(
    # An undefined function, table or type.
    ("42883", "42P01", "42704"),
    ". Events are kept up to the spool's limit. Is the audit log installed here? Run: usersync apply",
) | {"US301": ". Events are kept up to the spool's limit"}


def one_line(text: str) -> str:
    """A message without line breaks, shortened."""
    return " ".join(text.split())[:500]
