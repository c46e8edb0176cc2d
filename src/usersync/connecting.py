"""Where the database is, and how a connection to it is made.

The address is looked for in: the argument, the environment, ``.env.local``, ``.env``; and in each of these
under ``SUPABASE_DB_URL`` before ``DATABASE_URL``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
from dotenv import dotenv_values
from psycopg.conninfo import conninfo_to_dict

from usersync.errors import ConnectionFailedError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLES = ("SUPABASE_DB_URL", "DATABASE_URL")

_CONNECT_TIMEOUT_S = 10

#: What other tools put into the same variable, and libpq would stumble over.
_FOREIGN_OPTIONS = {"pgbouncer", "connection_limit", "pool_timeout", "schema", "statement_cache_size"}


def find_dsn(dsn: str | None = None, *, directory: Path | None = None) -> str:
    """Return the address to use, or raise :class:`SettingsError` that says where it was looked for."""
    if dsn:
        return check_dsn(dsn)
    directory = directory or Path.cwd()
    places: list[Mapping[str, str | None]] = [os.environ]
    places += [dotenv_values(directory / name) for name in (".env.local", ".env")]
    for place in places:
        for variable in VARIABLES:
            if found := place.get(variable):
                return check_dsn(found, variable)
    raise SettingsError(
        "no database address: neither --dsn, nor SUPABASE_DB_URL or DATABASE_URL in the environment, "
        ".env.local or .env",
        hint="On Supabase: Project settings, Database, Connection string. Put it into .env.local as "
        'SUPABASE_DB_URL="postgresql://…".',
    )


def check_dsn(dsn: str, where: str = "the database address") -> str:
    """Return ``dsn`` as libpq takes it, or raise :class:`SettingsError`. Its password is never repeated."""
    dsn = _without_foreign_parts(dsn.strip())
    if re.match(r"https?://", dsn):
        raise SettingsError(
            f"{where} is an HTTP address; the installer needs a PostgreSQL connection",
            hint="A Supabase API key cannot change a schema. Take the connection string of the database "
            "instead: Project settings, Database.",
        )
    if "[YOUR-PASSWORD]" in dsn:
        raise SettingsError(f"{where} still holds the placeholder [YOUR-PASSWORD]")
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        raise SettingsError(
            f"{where} cannot be read: {_without_secret(str(error), dsn)}",
            hint="Expected postgresql://user:password@host:port/dbname; percent-encode special characters "
            "in the password (@ is %40, : is %3A, / is %2F, # is %23).",
        ) from None
    return dsn


def _without_foreign_parts(dsn: str) -> str:
    """Drop what SQLAlchemy and Prisma add to a URL."""
    dsn = re.sub(r"^(postgres(?:ql)?)\+\w+://", r"\1://", dsn)
    if not dsn.startswith(("postgres://", "postgresql://")) or "?" not in dsn:
        return dsn
    parts = urlsplit(dsn)
    options = [pair for pair in parse_qsl(parts.query) if pair[0] not in _FOREIGN_OPTIONS]
    return urlunsplit(parts._replace(query=urlencode(options)))


def _without_secret(message: str, dsn: str) -> str:
    """Take anything out of libpq's complaint that may be part of a password."""
    return re.sub(r'"[^"]*"', '"…"', message.replace(dsn, "…")).strip()


def connection_options(application: str = "usersync") -> dict[str, Any]:
    """How usersync connects: fit for a transaction pooler, and known by name to whoever looks."""
    return {
        "autocommit": True,
        "prepare_threshold": None,
        "application_name": application,
        "connect_timeout": _CONNECT_TIMEOUT_S,
    }


def describe_target(dsn: str) -> str:
    """Host, port and database of an address, without user and password."""
    parts = conninfo_to_dict(dsn)
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    return f"{host}:{parts.get('port') or 5432}/{parts.get('dbname') or parts.get('user') or ''}"


def connection_failed(error: psycopg.Error, dsn: str) -> NoReturn:
    """Raise :class:`ConnectionFailedError` that says what is wrong with the address or the server."""
    message = " ".join(str(error).split())
    raise ConnectionFailedError(
        f"cannot connect to {describe_target(dsn)}: {message}", hint=_connection_hint(message)
    ) from error


_HINTS = (
    ("password authentication failed", "Check user and password; percent-encode special characters."),
    (
        "Tenant or user not found",
        "Through the pooler the user is postgres.<project-ref>; check the region too.",
    ),
    ("does not exist", "Check the name of the database or the role at the end of the address."),
    ("could not translate host name", "Check the host name, and that this machine has DNS."),
    ("failed to resolve host", "Check the host name, and that this machine has DNS."),
    (
        "Network is unreachable",
        "A direct connection to Supabase is IPv6 only; use the session pooler's address.",
    ),
    ("Connection refused", "Is the server running, and is the port right?"),
    ("timeout", "Is the host right, and does a firewall or an IP allow list stand between?"),
    ("SSL", "Add sslmode=require to the address, or sslmode=disable for a server without TLS."),
)


def _connection_hint(message: str) -> str:
    return next((hint for mark, hint in _HINTS if mark in message), "Check the address and the server.")
