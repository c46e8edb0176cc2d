"""The installation in a database: the settings it was installed with, and who may read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.config.settings import parse_remembered
from usersync.errors import PrivilegeMissingError
from usersync.transports.steps import PIN_SEARCH_PATH, query, query_row

if TYPE_CHECKING:
    from usersync.config.settings import Settings
    from usersync.transports.steps import Steps


_WHO = """
    select owner.name as owner, not pg_catalog.pg_has_role(owner.name, 'USAGE') as is_foreign
    from (
        select pg_catalog.pg_get_userbyid(nspowner) as name
        from pg_catalog.pg_namespace where nspname = 'usersync'
    ) as owner
"""


def require_membership() -> Steps[None]:
    """Raise ``PrivilegeMissingError`` unless this role is a member of the installation's owner.

    Other roles cannot see the installation, and would get the wrong advice to run ``apply``.
    """
    for row in (yield from query(_WHO)):
        if row["is_foreign"]:
            raise PrivilegeMissingError(
                f"permission denied for schema usersync, which belongs to {row['owner']}",
                hint=f"Connect as {row['owner']}, or as a role that is a member of it.",
            )


#: A table whose owner this role is, or is a member of; not a view of another role.
_HAS_SETTINGS = """
    select exists (
        select from pg_class
        where relnamespace = to_regnamespace('usersync') and relname = 'settings' and relkind = 'r'
            and pg_has_role(relowner, 'USAGE')
    ) as found
"""


def settings_in_database() -> Steps[Settings | None]:
    """The settings of the last ``apply`` to this database; None if usersync is not installed.

    Raises ``SettingsError`` if the stored settings are invalid.
    """
    installed = yield from query_row(PIN_SEARCH_PATH + _HAS_SETTINGS)
    if not installed["found"]:
        return None
    rows = yield from query("select settings from usersync.settings")
    return parse_remembered(rows[0]["settings"]) if rows else None


def installation_id() -> Steps[str]:
    """The id of the installation. It never changes. Requires an installation."""
    row = yield from query_row("select installation::text as id from usersync.settings")
    return str(row["id"])
