"""What foreign keys mean for the deletion of a user: D013 and D016."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.models import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.config.settings import Settings
    from usersync.core.foreign_keys import ForeignKey, ForeignKeys

_BEFORE = "This was so before usersync, and usersync does not change it."


def reference_findings(settings: Settings, keys: ForeignKeys) -> Iterator[Finding]:
    """What the keys between the two tables do, and which keys to the users table block a deletion."""
    for key in keys.between(keys.users, keys.source):
        if settings.key in key.columns:
            yield from _of_the_key(settings, key)
        else:
            yield from _of_another_column(settings, key)
    if keys.users_cascade or settings.deletes_rows:
        for path in keys.blocking(keys.users):
            yield _blocking(settings, path, cascades=keys.users_cascade)


def _of_the_key(settings: Settings, key: ForeignKey) -> Iterator[Finding]:
    """A key by which each row refers to its own user in the auth server's table."""
    table, source = settings.users_table, settings.source_table
    keeps = settings.on_delete != "delete"
    if key.action == "c":
        if keeps:
            yield _warning(
                "D013",
                key,
                f"the foreign key {key.name} deletes a user's row in {table} with the user's row in "
                f"{source}, so on_delete = {settings.on_delete!r} finds nothing to keep after a hard delete",
                f'-- Set on_delete = "delete"; or drop the key, and the rows stay:\n{key.drop}',
            )
        return
    if key.action in {"a", "r"}:
        what = (
            f"the foreign key {key.name} is ON DELETE {key.on_delete.upper()}: the auth server cannot delete "
            f"a user who has a row in {table}"
        )
    else:
        what = (
            f"the foreign key {key.name} is ON DELETE {key.on_delete.upper()}: it empties "
            f"{table}.{settings.key} when the auth server deletes a user, or fails the deletion "
            "if the column is NOT NULL"
        )
    # A row that outlives its user cannot refer to the user.
    yield Finding("D013", f"constraint {key.name}", what, key.drop if keeps else key.recreate("cascade"))


def _of_another_column(settings: Settings, key: ForeignKey) -> Iterator[Finding]:
    """A key by which a row names some user: who created it, who invited the user."""
    columns, table = ", ".join(key.columns), settings.users_table
    if key.blocks:
        what = (
            f"the foreign key {key.name} is ON DELETE {key.on_delete.upper()}: the auth server cannot delete "
            f"a user whom a row of {table} names in {columns}. {_BEFORE}"
        )
    elif key.action == "c":
        what = (
            f"the foreign key {key.name} is ON DELETE CASCADE: deleting a user in the auth server deletes "
            f"each row of {table} that names the user in {columns}. {_BEFORE}"
        )
    else:
        return
    yield _warning("D013", key, what, key.set_null())


def _blocking(settings: Settings, path: tuple[ForeignKey, ...], *, cascades: bool) -> Finding:
    key = path[-1]
    through = "".join(f", whose rows are deleted with those of {each.parent_name}" for each in path[:-1])
    where = (
        f"a row of {key.child_name} refers to the user's row"
        if not through
        else (f"a row of {key.child_name} refers to a row of {key.parent_name}{through}")
    )
    what = f"the foreign key {key.name} is ON DELETE {key.on_delete.upper()}. Where {where}, "
    if not cascades:
        what += (
            'on_delete = "delete" cannot delete the row: the row stays, and the failures table has the reason'
        )
        return Finding("D016", f"constraint {key.name}", what, key.set_null())
    # The cascade runs in the auth server's own statement, where no function of ours can catch anything.
    what += (
        'the auth server\'s own deletion of the user fails ("Database error deleting user"), since '
        f"the row of {settings.users_table} is deleted by a foreign key. {_BEFORE}"
    )
    return _warning("D016", key, what, key.set_null())


def _warning(code: str, key: ForeignKey, message: str, fix: str) -> Finding:
    return Finding(code, f"constraint {key.name}", message, fix, "warning")
