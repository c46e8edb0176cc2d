"""Whether each function is safe for the auth server to run: its SECURITY mode, search path and owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.audit.tracking.generate import is_of_tracked_table
from usersync.doctor.context import Context, Definition, Verdict, number
from usersync.models import Finding
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.transports.steps import Row, Steps

_FUNCTIONS = """
    select
        function.oid::regprocedure::text as name,
        schema.nspname || '.' || proname || '(' || oidvectortypes(proargtypes) || ')' as signature,
        prosecdef as definer,
        coalesce('search_path=pg_catalog, pg_temp' = any(proconfig), false) as pinned,
        proowner = home.nspowner as owned,
        pg_get_userbyid(proowner) as owner,
        pg_get_userbyid(home.nspowner) as home_owner,
        case
            -- If only the owner of the schema changed, the functions are right.
            when proowner = (select relowner from pg_class where oid = to_regclass('usersync.settings'))
            then format('alter schema usersync owner to %%I;', pg_get_userbyid(proowner))
            else format(
                'alter function %%s owner to %%I;',
                function.oid::regprocedure,
                pg_get_userbyid(home.nspowner)
            )
        end as fix
    from pg_proc as function
    join pg_namespace as schema on schema.oid = pronamespace
    join pg_namespace as home on home.nspname = %(home)s
    -- The first condition is cheap. PostgreSQL would read the comments of its 3,000 functions without it.
    where pronamespace = any(array(select oid from pg_namespace where nspname in ('usersync', 'public')))
        and obj_description(function.oid, 'pg_proc') like 'usersync: %%'
    order by 1
"""


def look(context: Context) -> Steps[Verdict]:
    rows = yield from query(_FUNCTIONS, home="usersync")
    definers = {each.signature for each in context.bundle.functions if "security definer" in each.text}
    ours = {each.signature for each in context.bundle.functions}
    return Verdict(
        f"{number(len(rows), 'function')}, each pins its search path",
        (*context.found("D007"), *(finding for row in rows for finding in _findings(row, ours, definers))),
    )


def _findings(row: Row, ours: set[str], definers: set[str]) -> Iterator[Finding]:
    if not row["owned"] and row["signature"] not in ours and not is_of_tracked_table(row["signature"]):
        # To change its owner would run a foreign text with the privileges of usersync.
        yield Finding(
            "D007",
            f"function {row['name']}",
            f"{row['name']} has a comment of usersync, but is not its function. It belongs to {row['owner']}",
            f"-- If the application does not need it, drop it: drop function {row['name']};",
        )
        return
    if not is_of_tracked_table(row["signature"]):  # D029 compares those
        yield from _unsafe(row, definers)
    if not row["owned"]:
        yield Finding(
            "D007",
            f"function {row['name']}",
            f"{row['name']} belongs to {row['owner']}, and the schema usersync to {row['home_owner']}",
            row["fix"],
        )


def _unsafe(row: Row, definers: set[str]) -> Iterator[Finding]:
    name = row["name"]
    if row["definer"] != (row["signature"] in definers):
        mode, meant = ("DEFINER", "INVOKER") if row["definer"] else ("INVOKER", "DEFINER")
        yield Finding(
            "D007",
            f"function {name}",
            f"{name} is SECURITY {mode}, and is meant to be SECURITY {meant}",
            "usersync apply",
            safe=True,
        )
    if not row["pinned"]:
        yield Finding(
            "D007",
            f"function {name}",
            f"{name} does not pin its search path: its caller chooses what it calls",
            "usersync apply",
            safe=True,
        )


CHECK = Definition("D007", "Safety of the functions", look)
