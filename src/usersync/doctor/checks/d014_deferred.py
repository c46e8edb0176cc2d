"""Constraints of the users table that are checked at COMMIT, where they would fail a sign-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict
from usersync.models import Finding
from usersync.transports.steps import query

if TYPE_CHECKING:
    from usersync.transports.steps import Row, Steps

_DEFERRED = r"""
    select
        conname as name,
        case contype
            when 'f' then format(
                'alter table %%s alter constraint %%I not deferrable;', conrelid::regclass, conname
            )
            when 't' then format(
                E'drop trigger %%I on %%s;\n%%s;',
                conname,
                conrelid::regclass,
                regexp_replace(pg_get_triggerdef(pg_trigger.oid), ' DEFERRABLE INITIALLY DEFERRED ', ' ')
            )
            else format(
                'alter table %%s drop constraint %%I, add constraint %%I %%s;',
                conrelid::regclass,
                conname,
                conname,
                regexp_replace(
                    pg_get_constraintdef(pg_constraint.oid), ' DEFERRABLE INITIALLY DEFERRED$', ''
                )
            )
        end as fix
    from pg_constraint
    left join pg_trigger on tgconstraint = pg_constraint.oid and not tgisinternal
    where conrelid = to_regclass(%(users_table)s) and condeferred
    order by conname
"""


def look(context: Context) -> Steps[Verdict]:
    rows = yield from query(_DEFERRED, users_table=context.settings.users_table.quoted)
    return Verdict("none", tuple(_finding(row) for row in rows))


def _finding(row: Row) -> Finding:
    return Finding(
        "D014",
        f"constraint {row['name']}",
        f"the constraint {row['name']} is checked at COMMIT. usersync checks it earlier, so that a sign-up "
        "cannot fail. That costs time at each sign-up, and does not protect other writers of the table",
        row["fix"],
        "warning",
    )


CHECK = Definition("D014", "Deferred constraints on the users table", look, "users table")
