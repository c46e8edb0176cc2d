"""Sends a batch to the database and waits for the answer, with a time-out."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from usersync.audit.delivery.protocol import RefusedError, UnavailableError, exchange, one_line
from usersync.audit.spool.binding import WrongDatabaseError
from usersync.config.dsn import Sealed, connection_options, opened
from usersync.core.position import DatabasePosition
from usersync.transports.fork_gate import GatedConnection

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn
    from psycopg_pool import ConnectionPool

_RECORD = b"select public.record_audit_events($1::jsonb)::text"

PLAIN_EVENT = b'{"action": "usersync.probed"}'

# After this time an idle connection is closed.
IDLE_S = 60.0


@dataclass(frozen=True)
class Receipt:
    """The result of a committed batch."""

    stored: int
    duplicates: int
    rejected: int
    #: ``id``, ``action`` and ``reason`` of the first few rejected events.
    rejects: tuple[dict[str, Any], ...] = ()


COUNTS = ("stored", "duplicates", "rejected")

NOT_ONE = "the spooled payload is not one event, but none or several"


def check_count(payloads: list[bytes], answer: dict[str, Any]) -> None:
    """Raise ``RefusedError`` if a payload is not one event: a spool may have been edited by hand."""
    if sum(answer.get(each, 0) for each in COUNTS) != len(payloads):
        raise RefusedError(NOT_ONE)


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def check_place(answer: Any) -> DatabasePosition | None:
    """The database's position. Raises ``WrongDatabaseError`` if it refused the events because of it."""
    place = DatabasePosition.read(answer.get("position")) if isinstance(answer, dict) else None
    if place is not None and "stored" not in answer:
        raise WrongDatabaseError(
            f"these events are for another database than installation {place.installation}"
        )
    return place


class Sender:
    """One connection for one thread, opened when needed."""

    #: How many times an event must fail, while a plain event is accepted, before it is quarantined.
    required_probes = 1

    def __init__(self, source: str | ConnectionPool[Any], timeout: float) -> None:
        self._source = source
        self._timeout = timeout
        self._connection: psycopg.Connection[Any] | None = None
        self._used_at = 0.0
        #: The database's position at its last answer; None before the first answer, or if it was not
        #: reported.
        self.position: DatabasePosition | None = None
        #: The time of that answer, in milliseconds since 1970.
        self.answered_ms = 0

    def locate(self) -> DatabasePosition | None:
        """Ask the database for its position. Raises what ``send()`` raises."""
        with suppress(WrongDatabaseError):
            self._send([], "wait", "?")
        return self.position

    def send(self, payloads: list[bytes], *, give_up_links: bool = False, belongs_to: str = "*") -> Receipt:
        """Store a batch and commit. Raises ``UnavailableError`` or ``RefusedError``.

        ``belongs_to`` is the beginning of the position of the events' database. Another database stores
        nothing and raises ``WrongDatabaseError``.

        A user whose row is locked makes the batch fail, to be retried. With ``give_up_links``, an event whose
        user has no row, or a locked one, is stored without the link; the actor's id is stored in any case.

        Sending a batch again that may have been stored is safe. Blocks at most for the time-out and the
        connect time-out.
        """
        return self._send(payloads, "give_up" if give_up_links else "wait", belongs_to)

    def _send(self, payloads: list[bytes], links: str, belongs_to: str) -> Receipt:
        was_open = self._connection is not None
        try:
            return self._store(payloads, links, belongs_to)
        except psycopg.OperationalError:
            self.close()
            if not was_open:
                raise
        # The server or a pooler may have closed the idle connection. Reconnect without waiting.
        return self._store(payloads, links, belongs_to)

    def takes_events(self) -> bool:
        """Whether the database accepts a plain event. The event is not stored."""
        try:
            receipt = self._store([PLAIN_EVENT], "wait", "*", then=b"rollback")
        except (UnavailableError, RefusedError, psycopg.Error):
            return False
        return receipt.stored == 1

    def _store(self, payloads: list[bytes], links: str, belongs_to: str, then: bytes = b"commit") -> Receipt:
        batch = b"[" + b",".join(payloads) + b"]"
        pgconn = self._opened().pgconn
        deadline = time.monotonic() + self._timeout
        try:
            exchange(pgconn, deadline, self._preamble(links, belongs_to))
            result = exchange(pgconn, deadline, _RECORD, batch)
            answer = json.loads(result.get_value(0, 0) or b"{}")
            self.position, self.answered_ms = DatabasePosition.read(answer.get("position")), now_ms()
            check_place(answer)
            check_count(payloads, answer)
            ended = exchange(pgconn, deadline, then)
            if ended.command_status != then.upper():
                raise UnavailableError("the transaction was rolled back")
        except (RefusedError, WrongDatabaseError):
            self._roll_back(pgconn, deadline)
            raise
        except BaseException:
            # A session keeps the settings with which it began: a read-only session would never become
            # writable.
            self.close()
            raise
        self._used_at = time.monotonic()
        self._return_to_pool()
        stored, duplicates, rejected = (answer.get(each, 0) for each in COUNTS)
        return Receipt(stored, duplicates, rejected, tuple(answer.get("rejects", ())))

    def _preamble(self, links: str, belongs_to: str) -> bytes:
        # The server's time-out is shorter than ours, so that no abandoned session waits for a lock.
        limit_ms = max(1, int(self._timeout * 900))
        return (
            "begin isolation level read committed; "
            f"set local statement_timeout = {limit_ms}; set local lock_timeout = {limit_ms}; "
            "set local client_encoding = 'UTF8'; set local synchronous_commit = on; "
            f"set local usersync.user_links = '{links}'; set local usersync.transaction = 'own'; "
            f"set local usersync.belongs_to = '{belongs_to}'"
        ).encode()

    def _opened(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            try:
                self._connection = self._connect()
            except psycopg.Error as error:
                raise UnavailableError(one_line(str(error))) from error
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
            # 2 is libpq's minimum.
            "connect_timeout": min(10, max(2, math.ceil(self._timeout))),
        }
        return opened(GatedConnection.connect, Sealed(self._source), options)

    def _roll_back(self, pgconn: PGconn, deadline: float) -> None:
        try:
            exchange(pgconn, deadline, b"rollback")
            self._return_to_pool()
        except Exception:  # noqa: BLE001 - the first failure is the one to report
            self.close()

    def _return_to_pool(self) -> None:
        if not isinstance(self._source, str) and self._connection is not None:
            connection, self._connection = self._connection, None
            self._source.putconn(connection)

    def close_if_idle(self) -> None:
        """Called while no events wait: closes a connection that has been idle for long."""
        if self._connection is not None and time.monotonic() - self._used_at > IDLE_S:
            self.close()

    def close(self) -> None:
        """Close the connection. The next batch opens a new one."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.close()
        if not isinstance(self._source, str):
            self._source.putconn(connection)

    def descriptors(self) -> list[int]:
        """The socket that a forked child must close."""
        connection = self._connection
        try:
            return [] if connection is None or connection.closed else [connection.fileno()]
        except psycopg.Error:
            return []
