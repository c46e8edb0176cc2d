"""Carries a batch to the database and waits for the answer, but not for ever.

What libpq's own time-outs do not cover is a connection that is open and silent: a proxy or a firewall that
takes the data and passes nothing on. So the exchange runs on the non-blocking interface, with a deadline.
"""

from __future__ import annotations

import json
import math
import select
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import DiagnosticField, ExecStatus

from usersync.connecting import connection_options

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult
    from psycopg_pool import ConnectionPool

_RECORD = b"select public.record_audit_events($1::jsonb)::text"

_OK = {ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK}

# An idle connection is given back to the server after so long.
IDLE_S = 60.0

#: What a batch can be refused for because of an event in it: data exceptions and limits, constraints, an
#: exception that somebody's trigger raises, an internal error. Everything else is the database's state.
DATA = ("0A", "21", "22", "23", "27", "44", "54", "P0", "XX000")


class UnavailableError(Exception):
    """The database does not take events at the moment; it may later."""


class TooSlowError(UnavailableError):
    """The batch was not done in time; a smaller one may be."""


class RefusedError(Exception):
    """The database refused the batch for what is in it."""


@dataclass(frozen=True)
class Receipt:
    """What became of a batch, once it was committed."""

    stored: int
    duplicates: int
    rejected: int


class Sender:
    """One connection, opened when it is needed, for one thread."""

    def __init__(self, source: str | ConnectionPool[Any], timeout: float) -> None:
        self._source = source
        self._timeout = timeout
        self._connection: psycopg.Connection[Any] | None = None
        self._used_at = 0.0

    def send(self, payloads: list[bytes]) -> Receipt:
        """Store a batch and commit. Raises :class:`UnavailableError` or :class:`RefusedError`.

        Sending a batch again that may have arrived is safe. Blocks for the time-out and the connect
        time-out at the most.
        """
        batch = b"[" + b",".join(payloads) + b"]"
        was_open = self._connection is not None
        try:
            return self._store(batch)
        except psycopg.OperationalError:
            self.close()
            if not was_open:
                raise
        # The server, or a pooler, may have ended a connection that was idle. That is no reason to wait.
        return self._store(batch)

    def _store(self, batch: bytes) -> Receipt:
        pgconn = self._opened().pgconn
        deadline = time.monotonic() + self._timeout
        try:
            _exchange(pgconn, deadline, self._preamble())
            result = _exchange(pgconn, deadline, _RECORD, batch)
            answer = json.loads(result.get_value(0, 0) or b"{}")
            committed = _exchange(pgconn, deadline, b"commit")
            if committed.command_status != b"COMMIT":
                raise UnavailableError("the transaction was rolled back")
        except RefusedError:
            self._roll_back(pgconn, deadline)
            raise
        except BaseException:
            # A session keeps the settings it began with: one that is read-only would be so for ever.
            self.close()
            raise
        self._used_at = time.monotonic()
        self._give_back()
        return Receipt(answer.get("stored", 0), answer.get("duplicates", 0), answer.get("rejected", 0))

    def _preamble(self) -> bytes:
        # The server gives up a little before we do, so that no abandoned session waits there for a lock.
        limit_ms = max(1, int(self._timeout * 900))
        return (
            f"begin; set local statement_timeout = {limit_ms}; set local lock_timeout = {limit_ms}; "
            "set local client_encoding = 'UTF8'; set local synchronous_commit = on"
        ).encode()

    def _opened(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            try:
                self._connection = self._connect()
            except psycopg.Error as error:
                raise UnavailableError(_one_line(str(error))) from error
        return self._connection

    def _connect(self) -> psycopg.Connection[Any]:
        if not isinstance(self._source, str):
            connection: psycopg.Connection[Any] = self._source.getconn(timeout=self._timeout)
            return connection
        options = connection_options("usersync-audit") | {
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": int(self._timeout * 1000),
            # libpq's least is 2.
            "connect_timeout": min(10, max(2, math.ceil(self._timeout))),
        }
        given = conninfo_to_dict(self._source)
        return psycopg.connect(
            self._source, **{name: value for name, value in options.items() if name not in given}
        )

    def _roll_back(self, pgconn: PGconn, deadline: float) -> None:
        try:
            _exchange(pgconn, deadline, b"rollback")
            self._give_back()
        except Exception:  # noqa: BLE001 - what counts is the failure that came before
            self.close()

    def _give_back(self) -> None:
        if not isinstance(self._source, str) and self._connection is not None:
            connection, self._connection = self._connection, None
            self._source.putconn(connection)

    def rest(self) -> None:
        """Called while there is nothing to send: closes a connection that has been idle for long."""
        if self._connection is not None and time.monotonic() - self._used_at > IDLE_S:
            self.close()

    def close(self) -> None:
        """Close the connection; the next batch opens another."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.close()
        if not isinstance(self._source, str):
            self._source.putconn(connection)

    def descriptors(self) -> list[int]:
        """The socket that a forked child must not keep open."""
        connection = self._connection
        try:
            return [] if connection is None or connection.closed else [connection.fileno()]
        except psycopg.Error:
            return []


def _exchange(pgconn: PGconn, deadline: float, query: bytes, param: bytes | None = None) -> PGresult:
    """Send one query and return its last result, by the deadline."""
    if param is None:
        pgconn.send_query(query)
    else:
        pgconn.send_query_params(query, [param])
    while pgconn.flush():
        _wait(pgconn, deadline, writing=True)
        pgconn.consume_input()
    last: PGresult | None = None
    failed: PGresult | None = None
    while True:
        while pgconn.is_busy():
            _wait(pgconn, deadline, writing=False)
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            break
        last = result
        if failed is None and result.status not in _OK:
            failed = result
    if failed is not None or last is None:
        raise _explain(failed)
    return last


def _wait(pgconn: PGconn, deadline: float, *, writing: bool) -> None:
    poller = select.poll()
    poller.register(pgconn.socket, select.POLLIN | (select.POLLOUT if writing else 0))
    remaining = deadline - time.monotonic()
    if remaining <= 0 or not poller.poll(remaining * 1000):
        raise TooSlowError("no answer from the database in time")


def _explain(result: PGresult | None) -> Exception:
    if result is None:
        return psycopg.OperationalError("the connection was closed")
    state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
    message = _one_line((result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace"))
    if not state:
        return psycopg.OperationalError(_one_line(result.error_message.decode(errors="replace")))
    if state == "57014":
        return TooSlowError(f"{message} ({state})")
    # A check without a name is that of a partition: a moment ago these events have got another one.
    is_moved = state == "23514" and not result.error_field(DiagnosticField.CONSTRAINT_NAME)
    if state.startswith(DATA) and not is_moved:
        return RefusedError(f"{message} ({state})")
    if state[:2] == "08" or state[:4] == "57P0":
        return psycopg.OperationalError(f"{message} ({state})")
    return UnavailableError(f"{message} ({state})")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
