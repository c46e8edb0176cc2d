"""The destination of an audit log: a connection string, the application's pool, a stream, or none."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from usersync.audit.options import directory_name
from usersync.audit.spool.binding import Destination
from usersync.config.dsn import Sealed, check_dsn, describe_host, sealed
from usersync.config.extras import missing
from usersync.errors import ArgumentTypeError
from usersync.transports.data_api import DataApi
from usersync.transports.drivers import full_name
from usersync.transports.jetstream.address import StreamAddress, is_stream_url

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

    Address = str | ConnectionPool[Any] | DataApi | StreamAddress

_POOL_METHODS = ("getconn", "putconn")
_NAMING = {"host", "hostaddr", "port", "dbname", "user", "options"}


#: Instead of a connection string: this process only records.
RECORDING_ONLY: Any = object()


def check_address(given: object) -> Address | None:
    """Return the destination unchanged, or raise ``ArgumentTypeError`` with the supported types."""
    if given is RECORDING_ONLY:
        return None
    given = sealed(given)
    if isinstance(given, Sealed):
        return _checked_stream(given) if is_stream_url(given.text) else check_dsn(given)
    if isinstance(given, DataApi | StreamAddress):
        return given
    kind = full_name(type(given))
    methods = [getattr(type(given), name, None) for name in _POOL_METHODS]
    if not all(map(callable, methods)):
        raise ArgumentTypeError(
            f"AuditLog: expected a connection string, a psycopg_pool.ConnectionPool or a DataApi, not {kind}",
            hint="A process that only records has AuditLog.recording_only()."
            if given is None
            else "To record in the transaction of your connection, pass the connection to record_in().",
        )
    if any(map(inspect.iscoroutinefunction, methods)):
        raise ArgumentTypeError(
            f"AuditLog: the writer is a thread and cannot use a pool of asyncio, {kind}",
            hint="Pass the connection string: the writer keeps its own connection.",
        )
    return given  # type: ignore[return-value]


def _checked_stream(url: Sealed) -> StreamAddress:
    # Later, in the writer's thread, the application would not notice.
    if lacking := missing("nats", "an AuditLog with a nats:// URL"):
        raise lacking
    return StreamAddress.parse(url, "the nats:// URL")


def destination_of(address: Address | None, project: str | None) -> Destination:
    """The destination of an audit log in the form that its spool stores: without a password."""
    whole = _whole_address(address)
    directory = directory_name(project or whole or "unassigned")
    return Destination(whole, project, directory, _former_directory(address))


def _whole_address(address: Address | None) -> str | None:
    """Identifies a database before the first contact: the connection string with user, options and path."""
    if address is None:
        return None
    if isinstance(address, DataApi):
        return address.url
    if isinstance(address, StreamAddress):
        return address.identity()
    dsn = _dsn_of(address)
    parts = conninfo_to_dict(dsn)
    user = f"{parts['user']}@" if parts.get("user") else ""
    options = "".join(
        f" {name}={parts[name]}" for name in ("hostaddr", "options", "service") if parts.get(name)
    )
    return f"{user}{describe_host(dsn)}{options}"


#: ``supabase start`` uses this host and port for every project on a machine.
_SHARED = re.compile(r"(localhost|127\.0\.0\.1|::1):54322/")


def _former_directory(address: Address | None) -> str | None:
    """The directory name that releases before 0.2 used for the spool: host, port and database.

    None if another project may have the same name, because the project is in the user, the options, or the
    path of the URL.
    """
    if address is None:
        return "unassigned"
    if isinstance(address, StreamAddress):
        return None
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
    # psycopg_pool 3.3 accepts functions for both.
    given: list[Any] = [address.conninfo, address.kwargs]
    conninfo, options = (each() if callable(each) else each for each in given)
    named = {name: value for name, value in (options or {}).items() if name in _NAMING}
    return make_conninfo(conninfo, **named)


def describe(address: Address | None) -> str:
    """The destination for people, without a password."""
    if address is None:
        return "recording only"
    if isinstance(address, StreamAddress):
        return address.url
    return address.host if isinstance(address, DataApi) else describe_host(_dsn_of(address))
