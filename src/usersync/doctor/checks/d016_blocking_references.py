"""Foreign keys to the users table that block the deletion of a row, if rows are deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict, number, without_query

if TYPE_CHECKING:
    from usersync.transports.steps import Steps


def look(context: Context) -> Steps[Verdict]:
    keys, settings = context.inspection.foreign_keys, context.settings
    if not settings.deletes_rows and not keys.users_cascade:
        policies = f"on_delete = {settings.on_delete!r}, on_soft_delete = {settings.on_soft_delete!r}"
        return without_query(Verdict(f"no row is deleted ({policies})"))
    leading = len(keys.to(keys.users))
    fine = f"none of {number(leading, 'foreign key')} to the table" if leading else "none to the table"
    return without_query(Verdict(fine, context.found("D016")))


CHECK = Definition("D016", "Foreign keys that block a deletion", look, "users table")
