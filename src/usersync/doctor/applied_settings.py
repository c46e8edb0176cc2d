"""What to examine a database by where no settings were read: what it was set up with itself.

The defaults would do harm: each function would look outdated, and the fix would undo somebody's mapping.
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
    """The settings in the database; ``otherwise`` where there are none to be read, or to be understood.

    With it, whether the columns are in the order in which the functions were made: 0.1.0 did not remember it.
    """
    try:
        settings = yield from settings_in_database()
        if settings is None:
            return otherwise, True
    except (DatabaseError, NotInstalledError, SettingsError):
        # The checks have their own words for this.
        return otherwise, True
    if (yield from query_row(_HAS_ORDER))["found"]:
        return settings, True
    same = settings.describe() == otherwise.describe()
    return (otherwise if same else settings), same
