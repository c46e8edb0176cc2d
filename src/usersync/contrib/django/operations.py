"""Migrations that bring usersync."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import router
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation

from usersync.contrib.django.addresses import address_of
from usersync.contrib.django.config import config
from usersync.errors import SettingsError
from usersync.schema import installation
from usersync.sql.script import install_script
from usersync.transports.psycopg import connect
from usersync.transports.run import run

if TYPE_CHECKING:
    from usersync.transports.steps import Steps


class ApplyUsersync(Operation):
    """Installs usersync, or brings it up to date, as ``usersync apply --no-sync`` does.

    ::

        class Migration(migrations.Migration):
            atomic = False
            dependencies = [("shop", "0001_initial")]  # after the users table, if it is one of yours
            operations = [ApplyUsersync()]

    It brings what this release and these settings say at the time, and changes nothing where that is there
    already. After an upgrade of the library, another migration with it (or ``manage.py usersync apply``)
    brings the database along; the system check ``usersync.W001`` says when. It is taken back with the first
    migration that has it: tables with data stay, except the failures table.

    It runs on ``database``, by default ``USERSYNC["DATABASE"]``, when that is migrated: as its role, over a
    connection of its own.
    """

    reversible = True
    reduces_to_sql = True

    def __init__(self, database: str | None = None) -> None:
        self.database = database

    def state_forwards(self, app_label: str, state: object) -> None:
        """No model changes."""

    def database_forwards(self, app_label: str, schema_editor: Any, *_states: object) -> None:
        """Install, or upgrade."""
        if not self._concerns(app_label, schema_editor.connection.alias):
            return
        settings = config().schema_settings()
        if schema_editor.collect_sql:
            schema_editor.execute(install_script(settings, transaction=False), params=None)
        else:
            _drive(installation.apply(settings), schema_editor.connection)

    def database_backwards(self, app_label: str, schema_editor: Any, *_states: object) -> None:
        """Take it back, unless another migration that is applied carries it too."""
        connection = schema_editor.connection
        if not self._concerns(app_label, connection.alias):
            return
        if schema_editor.collect_sql:
            schema_editor.collected_sql.append(
                "-- usersync rollback: what it drops depends on what is there."
            )
        elif len(carriers(connection, applied=True)) <= 1:
            _drive(installation.rollback(config().schema_settings()), connection)

    def describe(self) -> str:
        """What ``migrate`` calls it."""
        return "Install or upgrade usersync"

    @property
    def migration_name_fragment(self) -> str:
        """What a migration with it is called."""
        return "apply_usersync"

    def _concerns(self, app_label: str, alias: str) -> bool:
        wanted = self.database or config().database
        return alias == wanted and router.allow_migrate(alias, app_label)


def carriers(connection: Any, *, applied: bool) -> list[tuple[str, str]]:
    """The migrations with ``ApplyUsersync`` that are applied to a database, or are not yet."""
    loader = MigrationLoader(connection, ignore_no_migrations=True)
    return [
        key
        for key, migration in loader.disk_migrations.items()
        if (key in loader.applied_migrations) == applied
        and any(isinstance(each, ApplyUsersync) for each in migration.operations)
    ]


def _drive(plan: Steps[Any], connection: Any) -> None:
    if connection.in_atomic_block:
        raise SettingsError(
            "ApplyUsersync works in transactions of its own, and this migration is one",
            hint="Set atomic = False in it. The triggers on the auth server's table are made in the last of "
            "those transactions, so that no sign-in waits for the rest.",
        )
    with connect(address_of(connection.alias)) as own:
        run(plan, own)
