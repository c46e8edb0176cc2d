"""Foreign keys that lead to the users table and make the deletion of a row fail, where rows are deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict, number, settled

if TYPE_CHECKING:
    from usersync.transports.steps import Steps


def look(context: Context) -> Steps[Verdict]:
    keys, settings = context.inspection.foreign_keys, context.settings
    if not settings.deletes_rows and not keys.users_cascade:
        policies = f"on_delete = {settings.on_delete!r}, on_soft_delete = {settings.on_soft_delete!r}"
        return settled(Verdict(f"no row is deleted ({policies})"))
    leading = len(keys.to(keys.users))
    return settled(Verdict(f"none of {number(leading, 'foreign key')} to the table", context.found("D016")))


CHECK = Definition("D016", "Foreign keys that block a deletion", look, "users table")
