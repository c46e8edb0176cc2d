"""What to examine a database by where no settings were read: what it was set up with itself.

The defaults would do harm: each function would look outdated, and the fix would undo somebody's mapping.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.errors import DatabaseError, NotInstalledError, SettingsError
from usersync.plans.schema import settings_in_database

if TYPE_CHECKING:
    from usersync.settings import Settings
    from usersync.transports.steps import Plan


def applied_settings(otherwise: Settings) -> Plan[tuple[Settings, bool]]:
    """The settings in the database; ``otherwise`` where there are none to be read, or to be understood.

    With it, whether the columns are in the order of old. The database keeps them as JSON and so in none, and
    the text of the functions depends on it.
    """
    try:
        settings = (yield from settings_in_database()) or otherwise
    except (DatabaseError, NotInstalledError, SettingsError):
        # The checks have their own words for this.
        return otherwise, True
    same = settings.describe() == otherwise.describe()
    return (otherwise if same else settings), same
