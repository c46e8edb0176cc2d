"""Finds and checks the connection string (DSN), and opens connections.

Places, in order: the argument, the environment, ``.env.local``, ``.env``. In each of them
``SUPABASE_DB_URL`` comes before ``DATABASE_URL``.
"""

from __future__ import annotations

import logging
import re
import selectors
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from usersync.config.database_address import address_of, tenant_of
from usersync.config.environment import Found, values_of
from usersync.errors import ConnectionFailedError, SettingsError, without_quoted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

T = TypeVar("T")

_log = logging.getLogger("usersync")

VARIABLES = ("SUPABASE_DB_URL", "DATABASE_URL")

_CONNECT_TIMEOUT_S = 10

_URL = re.compile(r"postgres(ql)?://")

#: Common mistakes for a connection string. A JWT begins with the base64 of ``{"``.
_MISTAKEN_FOR_DSN = {
    "an HTTP URL": r"https?://",
    "an API key": r"(sb_(secret|publishable)_|eyJ[\w-]+\.)",
}

#: The placeholders of Supabase's dashboard and documentation.
_PLACEHOLDER = re.compile(r"\[YOUR-[A-Z]+\]|<[a-z]+(?:-[a-z]+)*>")

#: Options of other tools in the same variable, without a meaning for usersync. libpq refuses unknown options.
_FOREIGN_OPTIONS = {
    *("pgbouncer", "connection_limit", "pool_timeout", "schema"),  # Prisma
    # asyncpg, and SQLAlchemy's dialect for it
    *("statement_cache_size", "max_cached_statement_lifetime", "max_cacheable_statement_size"),
    *("prepared_statement_cache_size", "prepared_statement_name_func", "command_timeout", "async_fallback"),
    *("supa", "workaround"),  # Supabase's integrations
}

#: asyncpg's ``ssl``, as libpq's ``sslmode``; other values are the same in both.
_SSL = {"true": "require", "1": "require", "false": "disable", "0": "disable"}

#: Options of asyncpg that change how it connects, and that libpq does not have.
_UNSUPPORTED_OPTIONS = {"direct_tls", "server_settings", "timeout"}


class Sealed:
    """A connection string that tracebacks do not show: error trackers print the local variables of a
    frame.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "Sealed(…)"


def sealed(source: Any) -> Any:
    """``source``; a string is wrapped in ``Sealed``. Call it first, and overwrite the argument with the
    result.
    """
    return Sealed(source) if isinstance(source, str) else source


def find_dsn(dsn: str | None = None, *, directory: Path | None = None) -> str:
    """Return the connection string to use. If none is found, the ``SettingsError`` names the places."""
    if dsn:
        return check_dsn(dsn)
    if found := look_up_dsn(directory=directory):
        warn_of_other_databases(directory)
        return check_dsn(found.value, found.variable)
    raise no_dsn("neither SUPABASE_DB_URL nor DATABASE_URL", directory)


def look_up_dsn(*, directory: Path | None = None) -> Found | None:
    """The first connection string in the environment and the files, without those of other databases."""
    return next(
        (each for each in values_of(*VARIABLES, directory=directory) if not other_database(each)), None
    )


def warn_of_other_databases(directory: Path | None = None) -> None:
    """Log a warning if ``DATABASE_URL`` names the application's other database and is not used for that."""
    for found in takewhile(other_database, values_of(*VARIABLES, directory=directory)):
        _log.warning("%s (%s) is for %s and is not used", found.variable, found.where, other_database(found))


def other_database(found: Found) -> str | None:
    """The kind of database that ``DATABASE_URL`` names, such as ``sqlite``; None if it is PostgreSQL."""
    scheme = re.match(r"([a-z][a-z0-9]*)[a-z0-9+.-]*:", found.value.strip(), re.IGNORECASE)
    return scheme[1].lower() if found.variable == "DATABASE_URL" and scheme and _is_other(scheme[1]) else None


def _is_other(scheme: str) -> bool:
    return scheme.lower() in {"sqlite", "mysql", "mariadb", "mssql", "oracle", "mongodb", "cockroachdb"}


def no_dsn(looked_for: str, directory: Path | None = None) -> SettingsError:
    """The error if there is no connection string. It names a ``DATABASE_URL`` of another database."""
    others = [found for found in values_of(*VARIABLES, directory=directory) if other_database(found)]
    left_out = "".join(f"; {each.variable} ({each.where}) is for {other_database(each)}" for each in others)
    return SettingsError(
        f"no connection string: none was given, and {looked_for} is in the environment, .env.local or "
        f".env{left_out}",
        hint="On Supabase: Project settings, Database, Connection string. Put it into .env.local as "
        'SUPABASE_DB_URL="postgresql://…".',
    )


def check_dsn(dsn: str | Sealed, where: str = "the connection string") -> str:
    """Return ``dsn`` as libpq takes it, or raise ``SettingsError``. The error does not contain the
    password.
    """
    dsn = dsn if isinstance(dsn, Sealed) else Sealed(dsn)
    try:
        return _checked(dsn.text, where)
    except SettingsError as error:
        problem = error
    _drop_frames(problem)
    raise problem


def _checked(dsn: str, where: str) -> str:
    dsn = _without_foreign_options(dsn.strip(), where)
    if not dsn or "\0" in dsn:
        raise SettingsError(f"{where} is empty or contains a NUL", hint="Expected postgresql://…")
    for kind, pattern in _MISTAKEN_FOR_DSN.items():
        if re.match(pattern, dsn):
            raise SettingsError(
                f"{where} is {kind}; usersync needs a PostgreSQL connection",
                hint="A Supabase API key cannot change a schema. Use the connection string of the database: "
                "Project settings, Database. To use the Data API, set SUPABASE_URL and "
                "SUPABASE_SECRET_KEY, or pass DataApi(url, key).",
            )
    if (scheme := re.match(r"[a-z][a-z0-9+.-]*(?=://)", dsn, re.IGNORECASE)) and not _URL.match(dsn):
        raise SettingsError(
            f"{where} begins with {scheme[0]}://, which is not PostgreSQL",
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
    """Without a host, libpq reads the user as the host and the password as the port, and its messages name
    it.
    """
    if not re.fullmatch(r"[\d,]*", port):
        raise SettingsError(
            f"{where} cannot be read: the port is not a number",
            hint="Expected postgresql://user:password@host:port/dbname. Is the host missing, or a # or ? in "
            "the password not percent-encoded (# is %23, ? is %3F)?",
        )


def _check_placeholders(dsn: str, where: str) -> None:
    if found := dict.fromkeys(_PLACEHOLDER.findall(dsn)):
        one = len(found) == 1
        raise SettingsError(
            f"{where} contains the placeholder{'' if one else 's'} {', '.join(found)}",
            hint=f"Replace {'it' if one else 'them'} with the value{'' if one else 's'} of your project: "
            "Project settings, Database, Connection string.",
        )


def _without_foreign_options(dsn: str, where: str) -> str:
    """Remove or translate what SQLAlchemy, asyncpg and Prisma add to a URL. The rest stays the same."""
    dsn = re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", dsn)
    head, mark, query = dsn.rpartition("?")
    if not mark or not _URL.match(dsn):
        return dsn
    options = []
    for option in query.split("&"):
        name, _, value = option.partition("=")
        if name in _UNSUPPORTED_OPTIONS:
            raise SettingsError(
                f"{where} has the option {name}, which is asyncpg's",
                hint=f"Remove {name}, or give usersync a connection string of its own: SUPABASE_DB_URL.",
            )
        if name == "ssl":
            options.append(f"sslmode={_SSL.get(value.lower(), value)}")
        elif name not in _FOREIGN_OPTIONS:
            options.append(option)
    return f"{head}?{'&'.join(options)}" if options else head


def _check_at_signs(dsn: str, where: str) -> None:
    """libpq would read part of such a password as the host or the database, and its message would name it."""
    if _URL.match(dsn) is None:
        return
    authority, mark, _ = dsn.partition("://")[2].rpartition("@")
    if mark and re.search("[@/]", authority):
        raise SettingsError(
            f"{where} cannot be read: its user or password contains an @ or a /",
            hint="Percent-encode it: @ is %40, / is %2F, : is %3A, # is %23, % is %25.",
        )


def _without_secret(message: str, dsn: str) -> str:
    """Remove everything from libpq's message that may be part of a password."""
    return without_quoted(message.replace(dsn, "…")).strip()


def connection_options(application: str = "usersync") -> dict[str, Any]:
    """The options of every connection: usable through a transaction pooler, with an application name."""
    return {
        "autocommit": True,
        "prepare_threshold": None,
        "client_encoding": "utf8",
        "fallback_application_name": application,
        "connect_timeout": _CONNECT_TIMEOUT_S,
    }


#: Has no effect through a pooler (another pid), because other clients use the same session.
PIN_DATES = """
    select set_config('datestyle', 'ISO, MDY', false), set_config('intervalstyle', 'postgres', false)
    where pg_backend_pid() = %s
"""


def is_iso(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether the server sends times and intervals in the format that psycopg parses."""
    style = connection.info.parameter_status("DateStyle") or "ISO"
    return style.startswith("ISO") and connection.info.parameter_status("IntervalStyle") in {None, "postgres"}


def is_lost(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> bool:
    """Whether an idle connection was lost. Checks the socket without a query, which takes microseconds."""
    try:
        with selectors.DefaultSelector() as selector:
            while not connection.closed:
                selector.register(connection.fileno(), selectors.EVENT_READ)
                if not selector.select(timeout=0):
                    return False
                # The server sent something without a query: a notice, or the end of the connection.
                selector.unregister(connection.fileno())
                connection.pgconn.consume_input()
    except psycopg.OperationalError:
        pass
    return True


def describe_target(dsn: str) -> str:
    """Host, port and database of a connection string, without the password.

    All projects of a region share the pooler's host, so the project is added (from the user or an option).
    """
    parts = conninfo_to_dict(_without_foreign_options(dsn.strip(), "the connection string"))
    user = str(parts.get("user") or "")
    tenant = user if "." in user else tenant_of(parts)
    return f"{tenant}{'@' if tenant else ''}{describe_host(dsn)}"


def database_address(dsn: str) -> str:
    """The address of the database, with what libpq takes from the environment (PGHOST and others)."""
    defaults = {
        each.keyword.decode(): each.val.decode()
        for each in psycopg.pq.Conninfo.get_defaults()
        if each.val is not None
    }
    return address_of(defaults | conninfo_to_dict(check_dsn(dsn)))


def describe_host(dsn: str) -> str:
    """Host, port and database of a connection string."""
    parts = conninfo_to_dict(_without_foreign_options(dsn.strip(), "the connection string"))
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    return f"{host}:{parts.get('port') or 5432}/{parts.get('dbname') or parts.get('user') or ''}"


def describe_login(dsn: str, hidden: str) -> str:
    """User, host, port and database of a connection string, with ``hidden`` in place of the password."""
    parts = conninfo_to_dict(dsn)
    password = f":{hidden}" if parts.get("password") else ""
    login = f"{parts.get('user') or ''}{password}"
    return f"postgresql://{login}{'@' if login else ''}{describe_host(dsn)}"


def opened(connect: Callable[..., T], dsn: Sealed, options: Mapping[str, Any]) -> T:
    """Call the driver's ``connect``, with the options that the connection string does not set.

    Removes the driver's frames from an error: their local variables contain the connection string.
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
    """The options that the connection string does not set."""
    present = conninfo_to_dict(dsn.text)
    return {key: value for key, value in options.items() if key not in present}


def _drop_frames(error: BaseException | None) -> None:
    if error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        _drop_frames(error.__cause__)
        _drop_frames(error.__context__)


def connection_failed(error: psycopg.Error | UnicodeError, dsn: Sealed) -> NoReturn:
    """Raise ``ConnectionFailedError`` with the reason and a hint."""
    message = _readable(error, dsn.text)
    raise ConnectionFailedError(
        f"cannot connect to {describe_target(dsn.text)}: {message}", hint=_connection_hint(message)
    ) from error


def _readable(error: Exception, dsn: str) -> str:
    message = " ".join(_without_password(str(error), dsn).split())
    # libpq's advice: the hint repeats it.
    return re.sub(r" Is the server running[^?]*\?", "", message)


def _without_password(message: str, dsn: str) -> str:
    password = conninfo_to_dict(dsn).get("password")
    return message.replace(str(password), "…") if password else message


_HINTS = (
    ("password authentication failed", "Check user and password; percent-encode special characters."),
    (
        "Tenant or user not found",
        "Through the pooler, the user is postgres.<project-ref>. Check the region too.",
    ),
    ("not yet accepting connections", "The server is starting: try again in a moment."),
    ("the database system is", "The server is starting or shutting down: try again in a moment."),
    ("too many clients", "The server has no free connection: close some, or use the pooler."),
    ("no pg_hba.conf entry", "The server rejects this login: check host, user, database and sslmode."),
    ("does not exist", "Check the name of the database and of the role in the connection string."),
    ("could not translate host name", "Check the host name, and that this machine has DNS."),
    ("failed to resolve host", "Check the host name, and that this machine has DNS."),
    (
        "Network is unreachable",
        "Direct connections to Supabase require IPv6. Use the connection string of the session pooler.",
    ),
    ("Connection refused", "Is the server running, and is the port right?"),
    ("timeout", "Check the host name, firewalls, and the project's list of allowed IP addresses."),
    ("sslmode", "sslmode can be disable, allow, prefer, require, verify-ca or verify-full."),
    ("SSL", "Add sslmode=require to the connection string; for a server without TLS, sslmode=disable."),
)


def _connection_hint(message: str) -> str:
    return next(
        (hint for mark, hint in _HINTS if mark in message), "Check the connection string and the server."
    )
