"""The migration operation that installs usersync."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import router
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation

from usersync.contrib.django import testing
from usersync.contrib.django.config import config
from usersync.contrib.django.connection_strings import dsn_of
from usersync.errors import SettingsError
from usersync.schema import installation
from usersync.sql.script import install_script
from usersync.transports.psycopg import connect
from usersync.transports.run import run

if TYPE_CHECKING:
    from usersync.transports.steps import Steps

__all__ = ["ApplyUsersync"]


class ApplyUsersync(Operation):
    """Installs or upgrades usersync, as ``usersync apply --no-sync`` does.

    ::

        class Migration(migrations.Migration):
            atomic = False
            dependencies = [("shop", "0001_initial")]  # after the users table, if you create it
            operations = [ApplyUsersync()]

    It installs the current release with the current settings, and changes nothing that is up to date. After
    an upgrade of the library, upgrade the database with another such migration or ``manage.py usersync
    apply``; the system check ``usersync.W001`` says when. Reversing the first of these migrations removes
    usersync: tables with data stay, except the failures table.

    It runs when ``database`` is migrated, by default ``USERSYNC["DATABASE"]``, over its own connection with
    the same role.
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
            for text in install_script(settings):
                schema_editor.execute(text, params=None)
        else:
            _drive(installation.apply(settings), schema_editor.connection)

    def database_backwards(self, app_label: str, schema_editor: Any, *_states: object) -> None:
        """Remove usersync, unless another applied migration installs it too."""
        connection = schema_editor.connection
        if not self._concerns(app_label, connection.alias):
            return
        if schema_editor.collect_sql:
            schema_editor.collected_sql.append("-- usersync rollback: what it drops depends on the database.")
        elif len(carriers(connection, applied=True)) <= 1:
            _drive(installation.rollback(config().schema_settings()), connection)

    def describe(self) -> str:
        """The name of the operation in the output of ``migrate``."""
        return "Install or upgrade usersync"

    @property
    def migration_name_fragment(self) -> str:
        """Part of the name of a migration with the operation."""
        return "apply_usersync"

    def _concerns(self, app_label: str, alias: str) -> bool:
        wanted = self.database or config().database
        return alias == wanted and router.allow_migrate(alias, app_label)


def carriers(connection: Any, *, applied: bool) -> list[tuple[str, str]]:
    """The applied, or not yet applied, migrations with ``ApplyUsersync``."""
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
            "ApplyUsersync runs its own transactions, and this migration is atomic",
            hint="Set atomic = False in it. The triggers on the auth server's table come in the last of "
            "those transactions, so that no sign-in waits for the rest.",
        )
    with connect(dsn_of(connection.alias)) as own:
        testing.prepare(own)
        run(plan, own)
        testing.release(own)
