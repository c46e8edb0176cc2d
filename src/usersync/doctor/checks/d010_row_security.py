"""Row-level security on a users table that the Data API can reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict
from usersync.models import Finding
from usersync.transports.steps import query_row

if TYPE_CHECKING:
    from usersync.transports.steps import Steps

_EXPOSURE = """
    select
        relrowsecurity as secured,
        (
            select string_agg(rolname, ', ' order by rolname)
            from pg_roles
            where rolname in ('anon', 'authenticated')
                and has_schema_privilege(pg_roles.oid, relnamespace, 'usage')
                and (
                    has_table_privilege(pg_roles.oid, pg_class.oid, 'select, insert, update, delete')
                    or has_any_column_privilege(pg_roles.oid, pg_class.oid, 'select, insert, update')
                )
        ) as roles
    from pg_class
    where oid = to_regclass(%(users_table)s)
"""


def look(context: Context) -> Steps[Verdict]:
    table = context.settings.users_table
    row = yield from query_row(_EXPOSURE, users_table=table.quoted)
    if row["secured"]:
        return Verdict(f"{table} has row-level security")
    if row["roles"] is None:
        return Verdict(f"not needed: neither anon nor authenticated can access {table}")
    return Verdict(
        "",
        (
            Finding(
                "D010",
                str(table),
                f"{table} has no row-level security, and {row['roles']} may use the table: the project's "
                "public key gives access to the rows of all users. Write policies before you enable it. "
                "Without a policy these roles see no row",
                f"alter table {table.quoted} enable row level security;",
            ),
        ),
    )


CHECK = Definition("D010", "Row-level security on the users table", look, "users table")
