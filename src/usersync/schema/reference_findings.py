"""Effects of foreign keys when a user is deleted: D013 and D016."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.models import Finding
from usersync.schema.third_party_triggers import deletes_row, rows_without_usersync

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from usersync.config.settings import Settings
    from usersync.core.foreign_keys import ForeignKey, ForeignKeys

_WITHOUT = "This also happens without usersync."


def reference_findings(
    settings: Settings, keys: ForeignKeys, catalog: Mapping[str, Any]
) -> Iterator[Finding]:
    """What the foreign keys between the two tables do, and which keys to the users table block a deletion.

    A key that blocks the deletion of a user with or without usersync is a warning.
    """
    has_row = rows_without_usersync(settings, catalog)
    own = keys.of_users(settings.key)
    for key in keys.between(keys.users, keys.source):
        if key in own:
            yield from _of_the_key(settings, key, has_row=has_row)
        else:
            yield from _of_another_column(settings, key)
    if keys.users_cascade or settings.deletes_rows:
        why = _why_deletion_fails(settings, keys, [key for key in own if has_row and key.blocks], catalog)
        for path in keys.blocking(keys.users):
            yield _blocking(path, why)


def _of_the_key(settings: Settings, key: ForeignKey, *, has_row: bool) -> Iterator[Finding]:
    """A foreign key from the key column, by which each row refers to its own user."""
    table, source = settings.users_table, settings.source_table
    keeps = settings.on_delete != "delete"
    if key.action == "c":
        if keeps:
            yield _warning(
                "D013",
                key,
                f"the foreign key {key.name} deletes a user's row in {table} with the user's row in "
                f"{source}, so on_delete = {settings.on_delete!r} has no row to keep after a hard delete",
                f'-- Set on_delete = "delete"; or drop the foreign key, and the rows stay:\n{key.drop}',
            )
        return
    if key.blocks:
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
    # A row that stays after its user is deleted cannot refer to the user.
    fix = key.drop if keeps else key.recreate("cascade")
    if key.blocks and has_row:
        yield _warning("D013", key, f"{what}. {_WITHOUT}", fix)
    else:
        yield Finding("D013", f"constraint {key.name}", what, fix)


def _of_another_column(settings: Settings, key: ForeignKey) -> Iterator[Finding]:
    """A foreign key from another column, for example to the user who created the row."""
    columns, table = ", ".join(key.columns), settings.users_table
    if key.blocks:
        what = (
            f"the foreign key {key.name} is ON DELETE {key.on_delete.upper()}: the auth server cannot delete "
            f"a user whom a row of {table} names in {columns}. {_WITHOUT}"
        )
    elif key.action == "c":
        what = (
            f"the foreign key {key.name} is ON DELETE CASCADE: deleting a user in the auth server deletes "
            f"each row of {table} that names the user in {columns}. {_WITHOUT}"
        )
    else:
        return
    yield _warning("D013", key, what, key.set_null())


def _why_deletion_fails(
    settings: Settings, keys: ForeignKeys, blocking: Sequence[ForeignKey], catalog: Mapping[str, Any]
) -> str | None:
    """Why the auth server cannot delete the user while the row cannot be deleted; None if it can."""
    if keys.users_cascade:
        # The cascade runs in the auth server's own statement, where usersync can catch no error.
        return f"since the row of {settings.users_table} is deleted by a foreign key"
    if blocking:
        return f"since the foreign key {blocking[0].name} blocks it as long as the row exists (D013)"
    if trigger := deletes_row(settings, catalog):
        return f"since the trigger {trigger} deletes the row of {settings.users_table}"
    return None


def _blocking(path: tuple[ForeignKey, ...], why_deletion_fails: str | None) -> Finding:
    key = path[-1]
    through = "".join(f", whose rows are deleted with those of {each.parent_name}" for each in path[:-1])
    where = (
        f"a row of {key.child_name} refers to the user's row"
        if not through
        else (f"a row of {key.child_name} refers to a row of {key.parent_name}{through}")
    )
    what = f"the foreign key {key.name} is ON DELETE {key.on_delete.upper()}. Where {where}, "
    if why_deletion_fails is None:
        what += (
            'on_delete = "delete" cannot delete the row: the row stays, and the failures table has the reason'
        )
        return Finding("D016", f"constraint {key.name}", what, key.set_null())
    what += (
        'the auth server\'s own deletion of the user fails ("Database error deleting user"), '
        f"{why_deletion_fails}. {_WITHOUT}"
    )
    return _warning("D016", key, what, key.set_null())


def _warning(code: str, key: ForeignKey, message: str, fix: str) -> Finding:
    return Finding(code, f"constraint {key.name}", message, fix, "warning")
