"""The settings for doctor if there is no settings file: those that the database was set up with.

With the defaults, each function would look outdated, and the fix would undo the application's mapping.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.core.installed import settings_in_database
from usersync.errors import DatabaseError, NotInstalledError, SettingsError
from usersync.transports.steps import query_row

if TYPE_CHECKING:
    from usersync.config.settings import Settings
    from usersync.transports.steps import Steps


_HAS_ORDER = "select exists (select from usersync.settings where settings ? 'column_order') as found"


def applied_settings(otherwise: Settings) -> Steps[tuple[Settings, bool]]:
    """The settings in the database; ``otherwise`` if there are none, or they cannot be read.

    The second value is whether the columns have the order of the installed functions: 0.1.0 did not store it.
    """
    try:
        settings = yield from settings_in_database()
        if settings is None:
            return otherwise, True
    except (DatabaseError, NotInstalledError, SettingsError):
        # The checks report this.
        return otherwise, True
    if (yield from query_row(_HAS_ORDER))["found"]:
        return settings, True
    same = settings.describe() == otherwise.describe()
    return (otherwise if same else settings), same
