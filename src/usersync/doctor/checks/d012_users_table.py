"""Whether the users table exists and accepts the rows of users."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from usersync.config.mapping import TableName
from usersync.doctor.context import Context, Definition, Verdict
from usersync.models import Finding
from usersync.schema.keys import key_findings
from usersync.transports.steps import query

if TYPE_CHECKING:
    from usersync.config.settings import Settings
    from usersync.transports.steps import Steps


#: Tables with all of these columns; a table that the log refers to comes first.
_RENAMED = """
    select nspname as schema, relname as name
    from pg_class
    join pg_namespace on pg_namespace.oid = relnamespace
    where relkind in ('r', 'p') and not relispartition and nspname not in ('auth', 'usersync')
        and (
            select count(*) from pg_attribute
            where attrelid = pg_class.oid and attname = any(%(columns)s) and not attisdropped
        ) = cardinality(%(columns)s)
    order by
        exists (
            select from pg_constraint
            where contype = 'f' and confrelid = pg_class.oid and conrelid = to_regclass(%(audit_table)s)
        ) desc,
        1, 2
    limit 1
"""


def look(context: Context) -> Steps[Verdict]:
    table = context.settings.users_table
    if not context.inspection.has_users_table:
        return Verdict("", ((yield from _missing(context.settings)),))
    found = context.found("D012")
    if not any(each.level == "error" for each in found):
        found = (*(yield from key_findings(context.settings)), *found)
    return Verdict(f"every user can get a row in {table}", found)


def _missing(settings: Settings) -> Steps[Finding]:
    table = settings.users_table
    found = yield from query(
        _RENAMED,
        columns=[settings.key, *(column.name for column in settings.columns)],
        audit_table=settings.audit_table.quoted,
    )
    message = f"there is no table {table}: no user gets a row"
    if not found:
        return Finding("D012", f"table {table}", message, "usersync apply")
    renamed = TableName(found[0]["schema"], found[0]["name"])
    return Finding(
        "D012",
        f"table {table}",
        f"{message}. {renamed} has the columns of the missing table",
        f"-- If it was renamed, write in usersync.toml: users_table = {json.dumps(str(renamed))}. Then "
        "run: usersync apply\n-- If not, usersync apply creates the table and fills it.",
    )


CHECK = Definition("D012", "Shape of the users table", look)
