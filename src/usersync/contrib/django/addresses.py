"""Where a database of Django's is, as libpq takes it."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist
from psycopg.conninfo import make_conninfo
from psycopg.pq import Conninfo

from usersync.config.mapping import did_you_mean
from usersync.errors import SettingsError

_KEYWORDS = frozenset(option.keyword.decode() for option in Conninfo.get_defaults())


def address_of(alias: str) -> str:
    """The address of one of ``DATABASES``, for connections of usersync's own, as the same role.

    Raises ``SettingsError`` for an alias that is none, or not PostgreSQL's.
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
            hint='Name the one that has usersync in USERSYNC["DATABASE"]; None if there is none here.',
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
