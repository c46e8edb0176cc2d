"""Where an audit log sends to: an address, a pool of the application's, or nowhere."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from usersync.audit.options import directory_name
from usersync.audit.spool.belonging import Home
from usersync.config.dsn import Sealed, check_dsn, describe_host, sealed
from usersync.errors import SettingsError
from usersync.transports.data_api import DataApi

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

    Address = str | ConnectionPool[Any] | DataApi | None

_POOL_METHODS = ("getconn", "putconn")
_NAMING = {"host", "hostaddr", "port", "dbname", "user", "options"}


def check_address(given: object) -> Address:
    """Return what was given, or raise ``SettingsError`` that says what can be."""
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


def home_of(address: Address, project: str | None) -> Home:
    """Where an audit log sends to, as its spool remembers it: no password."""
    whole = _whole_address(address)
    directory = directory_name(project or whole or "unassigned")
    return Home(whole, project, directory, _former_directory(address))


def _whole_address(address: Address) -> str | None:
    """What tells one database from all others before it was reached: user, options and path included."""
    if address is None:
        return None
    if isinstance(address, DataApi):
        return address.url
    dsn = _dsn_of(address)
    parts = conninfo_to_dict(dsn)
    user = f"{parts['user']}@" if parts.get("user") else ""
    options = "".join(
        f" {name}={parts[name]}" for name in ("hostaddr", "options", "service") if parts.get(name)
    )
    return f"{user}{describe_host(dsn)}{options}"


#: ``supabase start`` gives every project on a machine this address.
_SHARED = re.compile(r"(localhost|127\.0\.0\.1|::1):54322/")


def _former_directory(address: Address) -> str | None:
    """What releases before 0.2 called the spool: by host, port and database.

    None where that may be another project's: the project is in the user, the options, or the path of the URL.
    """
    if address is None:
        return "unassigned"
    if isinstance(address, DataApi):
        return directory_name(address.host) if address.url.endswith(f"//{address.host}") else None
    dsn = _dsn_of(address)
    parts, label = conninfo_to_dict(dsn), describe_host(dsn)
    if "." in str(parts.get("user") or "") or parts.get("options") or _SHARED.match(label):
        return None
    return directory_name(label)


def _dsn_of(address: str | ConnectionPool[Any]) -> str:
    if isinstance(address, str):
        return address
    # psycopg_pool 3.3 takes functions for both.
    given: list[Any] = [address.conninfo, address.kwargs]
    conninfo, options = (each() if callable(each) else each for each in given)
    named = {name: value for name, value in (options or {}).items() if name in _NAMING}
    return make_conninfo(conninfo, **named)


def full_name(kind: type) -> str:
    """A class's name with that of its module: drivers have many a ``Connection``."""
    return f"{kind.__module__}.{kind.__qualname__}"
