"""Installing usersync into a test database, the way ``usersync apply`` does it for a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usersync.settings import Settings
    from usersync.testing.shape import SupabaseDatabase


def install(database: SupabaseDatabase, settings: Settings) -> None:
    """Install usersync as ``postgres``, with ``settings``, and leave no session behind.

    THE INSTALL STEP GOES HERE, and nowhere else in this package: the migration runner, driven over
    ``database.connect("postgres")``.
    """
    del database, settings
