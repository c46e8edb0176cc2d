"""Where the database is, and how a connection to it is made.

The address is looked for in: the argument, the environment, ``.env.local``, ``.env``; and in each of these
under ``SUPABASE_DB_URL`` before ``DATABASE_URL``.
"""

from __future__ import annotations

import re
import selectors
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from usersync.config.environment import look_up
from usersync.errors import ConnectionFailedError, SettingsError, without_quoted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

T = TypeVar("T")

VARIABLES = ("SUPABASE_DB_URL", "DATABASE_URL")

_CONNECT_TIMEOUT_S = 10

_URL = re.compile(r"postgres(ql)?://")

#: What is taken for an address, and is none. A JWT begins with the base64 of ``{"``.
_NOT_ADDRESSES = {
    "an HTTP address": r"https?://",
    "an API key": r"(sb_(secret|publishable)_|eyJ[\w-]+\.)",
}

#: As the dashboard and the documentation write what is to be filled in.
_PLACEHOLDER = re.compile(r"\[YOUR-[A-Z]+\]|<[a-z]+(?:-[a-z]+)*>")

#: What other tools put into the same variable, and libpq would stumble over.
_FOREIGN_OPTIONS = {"pgbouncer", "connection_limit", "pool_timeout", "schema", "statement_cache_size"}


class Sealed:
    """A connection string that no traceback shows: error trackers print the locals of every frame."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "Sealed(…)"


def sealed(source: Any) -> Any:
    """``source``, or what hides it if it is a text. To be called first, on the argument itself."""
    return Sealed(source) if isinstance(source, str) else source


def find_dsn(dsn: str | None = None, *, directory: Path | None = None) -> str:
    """Return the address to use, or raise ``SettingsError`` that says where it was looked for."""
    if dsn:
        return check_dsn(dsn)
    if found := look_up(*VARIABLES, directory=directory):
        return check_dsn(found.value, found.variable)
    raise SettingsError(
        "no database address: none was given, and there is no SUPABASE_DB_URL or DATABASE_URL in the "
        "environment, .env.local or .env",
        hint="On Supabase: Project settings, Database, Connection string. Put it into .env.local as "
        'SUPABASE_DB_URL="postgresql://…".',
    )


def check_dsn(dsn: str | Sealed, where: str = "the database address") -> str:
    """Return ``dsn`` as libpq takes it, or raise ``SettingsError``. Its password is never repeated."""
    dsn = dsn if isinstance(dsn, Sealed) else Sealed(dsn)
    try:
        return _checked(dsn.text, where)
    except SettingsError as error:
        problem = error
    _drop_frames(problem)
    raise problem


def _checked(dsn: str, where: str) -> str:
    dsn = _without_foreign_parts(dsn.strip())
    if not dsn or "\0" in dsn:
        raise SettingsError(f"{where} is empty or holds a NUL", hint="Expected postgresql://…")
    for kind, pattern in _NOT_ADDRESSES.items():
        if re.match(pattern, dsn):
            raise SettingsError(
                f"{where} is {kind}; usersync needs a PostgreSQL connection",
                hint="A Supabase API key cannot change a schema. Take the connection string of the database "
                "instead: Project settings, Database. To go through the Data API, set SUPABASE_URL and "
                "SUPABASE_SECRET_KEY, or pass DataApi(url, key).",
            )
    if (scheme := re.match(r"[a-z][a-z0-9+.-]*(?=://)", dsn, re.IGNORECASE)) and not _URL.match(dsn):
        raise SettingsError(
            f"{where} begins with {scheme[0]}://, and is no address of a PostgreSQL",
            hint="Expected postgresql://user:password@host:port/dbname.",
        )
    _check_placeholders(dsn, where)
    _check_at_signs(dsn, where)
    try:
        parts = conninfo_to_dict(dsn)
    except (psycopg.ProgrammingError, UnicodeError) as error:
        raise SettingsError(
            f"{where} cannot be read: {_without_secret(str(error), dsn)}",
            hint="Expected postgresql://user:password@host:port/dbname; percent-encode special characters "
            "in the password (@ is %40, : is %3A, / is %2F, # is %23).",
        ) from None
    _check_port(str(parts.get("port") or ""), where)
    return dsn


def _check_port(port: str, where: str) -> None:
    """Without a host, the user is taken for one and the password for the port, and every message names it."""
    if not re.fullmatch(r"[\d,]*", port):
        raise SettingsError(
            f"{where} cannot be read: what stands where the port belongs is no number",
            hint="Expected postgresql://user:password@host:port/dbname. Is the host missing, or a # or ? in "
            "the password not percent-encoded (# is %23, ? is %3F)?",
        )


def _check_placeholders(dsn: str, where: str) -> None:
    if found := dict.fromkeys(_PLACEHOLDER.findall(dsn)):
        one = len(found) == 1
        raise SettingsError(
            f"{where} still holds the placeholder{'' if one else 's'} {', '.join(found)}",
            hint=f"Put {'the value' if one else 'the values'} of your project there: Project settings, "
            "Database, Connection string.",
        )


def _without_foreign_parts(dsn: str) -> str:
    """Drop what SQLAlchemy and Prisma add to a URL. The rest stays to the letter."""
    dsn = re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", dsn)
    head, mark, query = dsn.rpartition("?")
    if not mark or not _URL.match(dsn):
        return dsn
    options = [option for option in query.split("&") if option.partition("=")[0] not in _FOREIGN_OPTIONS]
    return f"{head}?{'&'.join(options)}" if options else head


def _check_at_signs(dsn: str, where: str) -> None:
    """libpq would take part of a password for the host or the database, and name it in its complaint."""
    if _URL.match(dsn) is None:
        return
    authority, mark, _ = dsn.partition("://")[2].rpartition("@")
    if mark and re.search("[@/]", authority):
        raise SettingsError(
            f"{where} cannot be read: there is an @ or a / in its user or password",
            hint="Percent-encode it there: @ is %40, / is %2F, : is %3A, # is %23, % is %25.",
        )


def _without_secret(message: str, dsn: str) -> str:
    """Take anything out of libpq's complaint that may be part of a password."""
    return without_quoted(message.replace(dsn, "…")).strip()


def connection_options(application: str = "usersync") -> dict[str, Any]:
    """How usersync connects: fit for a transaction pooler, and known by name to whoever looks."""
    return {
        "autocommit": True,
        "prepare_threshold": None,
        "client_encoding": "utf8",
        "fallback_application_name": application,
        "connect_timeout": _CONNECT_TIMEOUT_S,
    }


#: Not through a pooler, where the session is not ours alone.
PIN_DATES = """
    select set_config('datestyle', 'ISO, MDY', false), set_config('intervalstyle', 'postgres', false)
    where pg_backend_pid() = %s
"""


def is_iso(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether times and intervals come in the form that the driver reads."""
    style = connection.info.parameter_status("DateStyle") or "ISO"
    return style.startswith("ISO") and connection.info.parameter_status("IntervalStyle") in {None, "postgres"}


def is_lost(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether an idle connection is of no more use. Asks the socket, not the server: takes microseconds."""
    try:
        with selectors.DefaultSelector() as selector:
            while not connection.closed:
                selector.register(connection.fileno(), selectors.EVENT_READ)
                if not selector.select(timeout=0):
                    return False
                # Something arrived though nothing was asked: a notice, or the end.
                selector.unregister(connection.fileno())
                connection.pgconn.consume_input()
    except psycopg.OperationalError:
        pass
    return True


def describe_target(dsn: str) -> str:
    """Host, port and database of an address, without a password.

    Behind a pooler all projects of a region have the same host: the user or an option names the project.
    """
    parts = conninfo_to_dict(dsn)
    user, options = str(parts.get("user") or ""), str(parts.get("options") or "")
    named = re.search(r"(?:reference|project)=([\w-]+)", options)
    tenant = user if "." in user else named[1] if named else ""
    return f"{tenant}{'@' if tenant else ''}{describe_host(dsn)}"


def describe_host(dsn: str) -> str:
    """Host, port and database of an address."""
    parts = conninfo_to_dict(dsn)
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    return f"{host}:{parts.get('port') or 5432}/{parts.get('dbname') or parts.get('user') or ''}"


def describe_login(dsn: str, hidden: str) -> str:
    """User, host, port and database of an address, with ``hidden`` in place of the password."""
    parts = conninfo_to_dict(dsn)
    password = f":{hidden}" if parts.get("password") else ""
    login = f"{parts.get('user') or ''}{password}"
    return f"postgresql://{login}{'@' if login else ''}{describe_host(dsn)}"


def opened(connect: Callable[..., T], dsn: Sealed, options: Mapping[str, Any]) -> T:
    """Call ``connect`` of the driver, with the options that the address does not set itself.

    What it raises has lost the driver's frames: their locals are the address.
    """
    try:
        return connect(dsn.text, **unset_in(dsn, options))
    except BaseException as error:  # noqa: BLE001 - it is raised again
        _drop_frames(error)
        raise error.with_traceback(None)  # noqa: B904 - "raise" alone would keep the frames


async def opened_async(connect: Callable[..., Awaitable[T]], dsn: Sealed, options: Mapping[str, Any]) -> T:
    """``opened()`` for asyncio."""
    try:
        return await connect(dsn.text, **unset_in(dsn, options))
    except BaseException as error:  # noqa: BLE001 - it is raised again
        _drop_frames(error)
        raise error.with_traceback(None)  # noqa: B904 - likewise


def unset_in(dsn: Sealed, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that the address does not set itself."""
    said = conninfo_to_dict(dsn.text)
    return {key: value for key, value in options.items() if key not in said}


def _drop_frames(error: BaseException | None) -> None:
    if error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        _drop_frames(error.__cause__)
        _drop_frames(error.__context__)


def connection_failed(error: psycopg.Error | UnicodeError, dsn: Sealed) -> NoReturn:
    """Raise ``ConnectionFailedError`` that says what is wrong with the address or the server."""
    message = _readable(error, dsn.text)
    raise ConnectionFailedError(
        f"cannot connect to {describe_target(dsn.text)}: {message}", hint=_connection_hint(message)
    ) from error


def _readable(error: Exception, dsn: str) -> str:
    message = " ".join(_without_password(str(error), dsn).split())
    # libpq's own advice, which is ours as well, and so said twice.
    return re.sub(r" Is the server running[^?]*\?", "", message)


def _without_password(message: str, dsn: str) -> str:
    password = conninfo_to_dict(dsn).get("password")
    return message.replace(str(password), "…") if password else message


_HINTS = (
    ("password authentication failed", "Check user and password; percent-encode special characters."),
    (
        "Tenant or user not found",
        "Through the pooler the user is postgres.<project-ref>; check the region too.",
    ),
    ("not yet accepting connections", "The server is starting: try again in a moment."),
    ("the database system is", "The server is starting or shutting down: try again in a moment."),
    ("too many clients", "The server has no connection left: close some, or go through the pooler."),
    ("no pg_hba.conf entry", "The server lets nobody in this way: check host, user, database and sslmode."),
    ("does not exist", "Check the name of the database or the role at the end of the address."),
    ("could not translate host name", "Check the host name, and that this machine has DNS."),
    ("failed to resolve host", "Check the host name, and that this machine has DNS."),
    (
        "Network is unreachable",
        "A direct connection to Supabase is IPv6 only; use the session pooler's address.",
    ),
    ("Connection refused", "Is the server running, and is the port right?"),
    ("timeout", "Is the host right, and does a firewall or an IP allow list stand between?"),
    ("sslmode", "Known are disable, allow, prefer, require, verify-ca and verify-full."),
    ("SSL", "Add sslmode=require to the address, or sslmode=disable for a server without TLS."),
)


def _connection_hint(message: str) -> str:
    return next((hint for mark, hint in _HINTS if mark in message), "Check the address and the server.")
