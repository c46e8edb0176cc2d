"""Whether the role anon may read the users table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict
from usersync.models import Finding
from usersync.transports.steps import query_row

if TYPE_CHECKING:
    from usersync.transports.steps import Steps

_READABLE = """
    select
        relrowsecurity as secured,
        has_any_column_privilege('public', pg_class.oid, 'select') as granted_to_public,
        exists (
            select from pg_roles
            where rolname = 'anon'
                and has_schema_privilege(pg_roles.oid, relnamespace, 'usage')
                and has_any_column_privilege(pg_roles.oid, pg_class.oid, 'select')
        ) as readable
    from pg_class
    where oid = to_regclass(%(users_table)s)
"""


def look(context: Context) -> Steps[Verdict]:
    table = context.settings.users_table
    row = yield from query_row(_READABLE, users_table=table.quoted)
    if not row["readable"]:
        return Verdict("anon may not read it")
    grantees = "anon, public" if row["granted_to_public"] else "anon"
    what = "the rows of it that its policies allow" if row["secured"] else "it"
    return Verdict(
        "",
        (
            Finding(
                "D011",
                str(table),
                f"anon has SELECT on {table}: anyone with the project's public key can read {what}",
                f"revoke select on table {table.quoted} from {grantees};",
                "warning" if row["secured"] else "problem",
            ),
        ),
    )


CHECK = Definition("D011", "Anonymous readers of the users table", look, "users table")
