"""Connections that wait only briefly for locks."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from usersync.sql.render import COMMAND_LOCK_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from usersync.transports.steps import Steps

T = TypeVar("T")


@contextmanager
def connected(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """An autocommit connection. Raises ``ConnectionFailedError``.

    Waits for locks no longer than ``COMMAND_LOCK_TIMEOUT``. Behind a pooler, other clients share the session.
    There, functions and transactions set the time-out.
    """
    from usersync.transports.psycopg import connect  # noqa: PLC0415 - a driver, which --help does not need

    with connect(dsn) as connection:
        connection.execute(
            "select case when pg_backend_pid() = %s then set_config('lock_timeout', %s, false) end",
            [connection.info.backend_pid, COMMAND_LOCK_TIMEOUT],
        )
        yield connection


def run_on(dsn: str, operation: Steps[T]) -> T:
    """Run an operation on a new connection."""
    from usersync.transports.run import run  # noqa: PLC0415 - a driver, which --help does not need

    with connected(dsn) as connection:
        return run(operation, connection)
