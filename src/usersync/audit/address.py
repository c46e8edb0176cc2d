"""Where an audit log sends to: an address, a pool of the application's, or nowhere."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import make_conninfo

from usersync.connecting import Sealed, check_dsn, describe_target, sealed
from usersync.errors import SettingsError
from usersync.rest import DataApi

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

    Address = str | ConnectionPool[Any] | DataApi | None

_POOL_METHODS = ("getconn", "putconn")
_NAMING = {"host", "hostaddr", "port", "dbname", "user"}


def check_address(given: object) -> Address:
    """Return what was given, or raise :class:`SettingsError` that says what can be."""
    if given is None:
        return None
    given = sealed(given)
    if isinstance(given, Sealed):
        return check_dsn(given)
    if isinstance(given, DataApi):
        return given
    kind = full_name(type(given))
    methods = [getattr(type(given), name, None) for name in _POOL_METHODS]
    if not all(map(callable, methods)):
        raise SettingsError(
            f"AuditLog: expected an address, a ConnectionPool of psycopg_pool, a DataApi or None, not {kind}",
            hint="To record in the transaction of a connection of yours, give that to record_in().",
        )
    if any(map(inspect.iscoroutinefunction, methods)):
        raise SettingsError(
            f"AuditLog: the writer is a thread and cannot use a pool of asyncio, {kind}",
            hint="Give the address: the writer keeps one connection of its own.",
        )
    return given  # type: ignore[return-value]


def label_of(address: Address) -> str:
    """Which database that is, for people and for the name of the spool's directory; no user, no password."""
    if address is None:
        return "unassigned"
    if isinstance(address, str):
        return describe_target(address)
    if isinstance(address, DataApi):
        return address.host
    # psycopg_pool 3.3 takes functions for both.
    given: list[Any] = [address.conninfo, address.kwargs]
    conninfo, options = (each() if callable(each) else each for each in given)
    named = {name: value for name, value in (options or {}).items() if name in _NAMING}
    return describe_target(make_conninfo(conninfo, **named))


def full_name(kind: type) -> str:
    """A class's name with that of its module: drivers have many a ``Connection``."""
    return f"{kind.__module__}.{kind.__qualname__}"
