"""Installing usersync into a test database, the way ``usersync apply`` does it for a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.schema import installation
from usersync.transports.run import run

if TYPE_CHECKING:
    from usersync.config.settings import Settings
    from usersync.testing.shape import SupabaseDatabase


def install(database: SupabaseDatabase, settings: Settings) -> None:
    """Install usersync as ``postgres``, with ``settings``, and leave no session behind."""
    with database.connect("postgres") as connection:
        run(installation.apply(settings), connection)
