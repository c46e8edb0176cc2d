"""Foreign keys from the users table to the auth server's table. They decide what deleting a user does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict, without_query

if TYPE_CHECKING:
    from usersync.transports.steps import Steps


def look(context: Context) -> Steps[Verdict]:
    keys = context.inspection.foreign_keys
    ok_detail = "none that blocks" if keys.between(keys.users, keys.source) else "none"
    return without_query(Verdict(ok_detail, context.found("D013")))


CHECK = Definition("D013", "Foreign key to the auth server's table", look, "users table")
