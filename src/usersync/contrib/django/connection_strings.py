"""The connection string of a Django database, for libpq."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo

from usersync.config.mapping import did_you_mean
from usersync.errors import SettingsError

_KEYWORDS = frozenset(option.keyword.decode() for option in Conninfo.get_defaults())


def dsn_of(alias: str) -> str:
    """The connection string of one of ``DATABASES``, for usersync's own connections, with the same role.

    Raises ``SettingsError`` for an unknown alias, or a database that is not PostgreSQL.
    """
    try:
        connection = connections[alias]
    except ConnectionDoesNotExist:
        raise SettingsError(
            f"there is no database {alias!r} in DATABASES", hint=did_you_mean(alias, connections.databases)
        ) from None
    if connection.vendor != "postgresql":
        raise SettingsError(
            f"the database {alias!r} is not PostgreSQL",
            hint='Set USERSYNC["DATABASE"] to the alias of the database with usersync, or to None.',
        )
    try:
        parameters = connection.get_connection_params()
    except ImproperlyConfigured as error:
        raise SettingsError(f"the database {alias!r}: {error}") from None
    known = {name: value for name, value in parameters.items() if name in _KEYWORDS}
    if role := connection.settings_dict["OPTIONS"].get("assume_role"):
        escaped = role.replace("\\", "\\\\").replace(" ", "\\ ")
        known["options"] = f"{known.get('options', '')} -c role={escaped}".strip()
    return make_conninfo(**known)
