"""Foreign keys that lead to the users table and forbid deleting a row, where on_delete deletes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.models import Finding
from usersync.plans.doctor.context import Context, Definition, Verdict, lines, number
from usersync.transports.steps import query

if TYPE_CHECKING:
    from usersync.transports.steps import Plan, Row

_REFERENCES = """
    select
        conname as name,
        conrelid::regclass::text as referrer,
        confdeltype in ('a', 'r') as blocking,
        array(
            select format('alter table %%s alter column %%I drop not null;', conrelid::regclass, attname)
            from pg_attribute where attrelid = conrelid and attnum = any(conkey) and attnotnull
        ) as relax,
        format(
            'alter table %%s drop constraint %%I, add constraint %%I foreign key (%%s) '
            'references %%s (%%s)%%s on delete set null not valid;',
            conrelid::regclass,
            conname,
            conname,
            (
                select string_agg(quote_ident(attname), ', ' order by turn)
                from unnest(conkey) with ordinality as key (number, turn)
                join pg_attribute on attrelid = conrelid and attnum = number
            ),
            confrelid::regclass,
            (
                select string_agg(quote_ident(attname), ', ' order by turn)
                from unnest(confkey) with ordinality as key (number, turn)
                join pg_attribute on attrelid = confrelid and attnum = number
            ),
            case confupdtype when 'c' then ' on update cascade' else '' end
        ) as replace,
        format('alter table %%s validate constraint %%I;', conrelid::regclass, conname) as validate
    from pg_constraint
    where contype = 'f' and confrelid = to_regclass(%(users_table)s) and conparentid = 0
    order by conrelid::regclass::text, conname
"""


def look(context: Context) -> Plan[Verdict]:
    rows = yield from query(_REFERENCES, users_table=context.settings.users_table.quoted)
    cascades = bool(context.inspection.catalog["cascading_foreign_keys"])
    if context.settings.on_delete != "delete" and not cascades:
        return Verdict(f"no row is deleted (on_delete = {context.settings.on_delete!r})")
    blocking = [row for row in rows if row["blocking"]]
    return Verdict(
        _none_of(len(rows)),
        tuple(_finding(row, cascades=cascades) for row in blocking),
    )


def _none_of(count: int) -> str:
    if not count:
        return "there are none"
    return (
        "the only foreign key that leads here does not"
        if count == 1
        else (f"none of the {number(count, 'foreign key')} that lead here")
    )


def _finding(row: Row, *, cascades: bool) -> Finding:
    what = f"the foreign key {row['name']} of {row['referrer']} forbids deleting a user who is referred to: "
    # The cascade runs in the auth server's own statement, where no function of ours can catch anything.
    outcome = (
        'the auth server\'s own deletion of such a user fails ("Database error deleting user"), because the '
        "users table's foreign key to the auth server's table cascades into it"
        if cascades
        else "the row stays, and the ledger says so"
    )
    return Finding(
        "D016",
        f"constraint {row['name']}",
        what + outcome,
        lines([*row["relax"], row["replace"], row["validate"]]),
    )


CHECK = Definition("D016", "Foreign keys that block a deletion", look, "users table")
