"""Alembic: migrations that install usersync, and an autogenerate that ignores its objects.

::

    # env.py
    from usersync.contrib.alembic import include_object

    context.configure(connection=connection, target_metadata=metadata, include_object=include_object)

    # a migration
    def upgrade():
        op.apply_usersync()


    def downgrade():
        op.rollback_usersync()

Importing this module registers the two operations. They run in the migration's transaction, with any driver,
also in offline mode (``alembic upgrade --sql``). Type checkers do not know registered operations: for mypy
or pyright, import ``apply_usersync`` and ``rollback_usersync`` from this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from usersync.config.extras import needed
from usersync.config.settings import load_settings
from usersync.schema.uninstall import rollback_script
from usersync.sql.script import install_script

with needed("alembic", "usersync.contrib.alembic"):
    from alembic import op
    from alembic.operations import MigrateOperation, Operations

if TYPE_CHECKING:
    from usersync.config.settings import Settings

__all__ = [
    "ApplyUsersyncOp",
    "RollbackUsersyncOp",
    "apply_usersync",
    "include_name",
    "include_object",
    "rollback_usersync",
]


@Operations.register_operation("apply_usersync")
class ApplyUsersyncOp(MigrateOperation):
    """``op.apply_usersync()``: installs or upgrades usersync, as the SQL of ``usersync sql`` does."""

    def __init__(self, settings: Settings | None) -> None:
        self.settings = settings

    @classmethod
    def apply_usersync(cls, operations: Operations, settings: Settings | None = None) -> None:
        """Install or upgrade usersync in the transaction of the migration. Blocks.

        Changes nothing that is up to date. There is no trial, and existing users are not synced: run
        ``usersync sync`` afterwards. Without ``settings``, reads ``usersync.toml`` or ``pyproject.toml`` in
        the directory of ``alembic.ini``. Raises the errors of the database driver.
        """
        operations.invoke(cls(settings))

    def reverse(self) -> RollbackUsersyncOp:
        """The operation that undoes this one."""
        return RollbackUsersyncOp(self.settings)


@Operations.register_operation("rollback_usersync")
class RollbackUsersyncOp(MigrateOperation):
    """``op.rollback_usersync()``: removes usersync, as ``usersync rollback`` does."""

    def __init__(
        self, settings: Settings | None, *, drop_users_table: bool = False, drop_audit_log: bool = False
    ) -> None:
        self.settings = settings
        self.drop_users_table = drop_users_table
        self.drop_audit_log = drop_audit_log

    @classmethod
    def rollback_usersync(
        cls,
        operations: Operations,
        settings: Settings | None = None,
        *,
        drop_users_table: bool = False,
        drop_audit_log: bool = False,
    ) -> None:
        """Remove usersync, if it is installed, in the transaction of the migration. Blocks.

        The users table stays, and so does an audit log that has events. The options drop them with all their
        rows, if usersync created them. A log that stays references the users table, so a later
        ``op.drop_table()`` of that table fails. ``settings`` are those of ``apply_usersync()``.
        """
        operations.invoke(cls(settings, drop_users_table=drop_users_table, drop_audit_log=drop_audit_log))

    def reverse(self) -> ApplyUsersyncOp:
        """The operation that undoes this one."""
        return ApplyUsersyncOp(self.settings)


def apply_usersync(settings: Settings | None = None) -> None:
    """``op.apply_usersync()`` with types, for migrations that a type checker reads. Blocks."""
    op.invoke(ApplyUsersyncOp(settings))


def rollback_usersync(
    settings: Settings | None = None, *, drop_users_table: bool = False, drop_audit_log: bool = False
) -> None:
    """``op.rollback_usersync()`` with types, for migrations that a type checker reads. Blocks."""
    op.invoke(RollbackUsersyncOp(settings, drop_users_table=drop_users_table, drop_audit_log=drop_audit_log))


@Operations.implementation_for(ApplyUsersyncOp)
def _apply(operations: Operations, operation: ApplyUsersyncOp) -> None:
    first, *rest = install_script(operation.settings or _settings_beside(operations))
    operations.execute(first)
    for text in rest:
        # An upgrade in several transactions. Each text is one statement.
        with operations.get_context().autocommit_block():
            operations.execute(text)


@Operations.implementation_for(RollbackUsersyncOp)
def _rollback(operations: Operations, operation: RollbackUsersyncOp) -> None:
    operations.execute(
        rollback_script(
            operation.settings or _settings_beside(operations),
            drop_users_table=operation.drop_users_table,
            drop_audit_log=operation.drop_audit_log,
        )
    )


def _settings_beside(operations: Operations) -> Settings:
    """The settings in the directory of alembic.ini, else in the current one."""
    environment = operations.get_context().environment_context
    file = environment.config.config_file_name if environment is not None else None
    return load_settings(directory=Path(file).parent if file else None)


_SCHEMAS = {"usersync", "auth"}


def include_name(name: str | None, type_: str, parent_names: Any) -> bool:  # noqa: ARG001 - Alembic passes it
    """Whether autogenerate reads this schema, with ``include_schemas=True``: not ``usersync`` or ``auth``."""
    return type_ != "schema" or name not in _SCHEMAS


#: How the comments of tables begin that usersync created.
_COMMENTS = (
    "The audit log, made by usersync",
    "The application's users, created by usersync",
    "Events that could not be stored because of what they contain",
)


def include_object(
    item: Any,
    name: str | None,  # noqa: ARG001 - Alembic passes it
    type_: str,
    reflected: bool,
    compare_to: Any,
) -> bool:
    """Whether autogenerate and ``alembic check`` compare this object: not one of usersync or the auth server.

    Leaves out the schemas ``usersync`` and ``auth``, and tables that usersync created, unless your metadata
    has the users table. To combine it with your own function: ``lambda *each: include_object(*each) and
    mine(*each)``.
    """
    if type_ != "table":
        return True
    if item.schema in _SCHEMAS:
        return False
    comments = [getattr(each, "comment", None) or "" for each in (item, compare_to)]
    if any(each.startswith(_COMMENTS[0]) for each in comments):
        # Also if your metadata has a class for reading the log: only usersync changes it.
        return False
    return not (reflected and compare_to is None and comments[0].startswith(_COMMENTS))
