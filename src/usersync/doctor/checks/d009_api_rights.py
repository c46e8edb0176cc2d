"""Who else may call our functions or read our tables: asked of the server, not read off access lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict
from usersync.models import Finding
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.core.exposed_objects import ExposedObject
    from usersync.transports.steps import Row, Steps

_LOCKED_OUT = """
    select function.oid::regprocedure::text as object
    from pg_proc as function
    join pg_roles on rolname = 'service_role'
    where obj_description(function.oid, 'pg_proc') like 'usersync: %'
        and pronamespace = 'public'::regnamespace
        and proowner = (select nspowner from pg_namespace where nspname = 'usersync')
        and not has_function_privilege(pg_roles.oid, function.oid, 'execute')
    order by 1
"""


def look(context: Context) -> Steps[Verdict]:
    locked_out = yield from query(_LOCKED_OUT)
    findings = tuple(_findings(context.inspection.opened, locked_out))
    return Verdict("service_role may call, nobody else", findings)


def _findings(opened: tuple[ExposedObject, ...], locked_out: list[Row]) -> Iterator[Finding]:
    for each in opened:
        may = f"{', '.join(each.roles)} may {'call' if each.kind == 'function' else 'use'} {each.label}"
        yield Finding("D009", each.label, may, each.revoke, safe=each.direct)
    for row in locked_out:
        yield Finding(
            "D009",
            f"function {row['object']}",
            f"service_role may not call {row['object']}, so the Data API cannot",
            f"grant execute on function {row['object']} to service_role;",
            safe=True,
        )


CHECK = Definition("D009", "Rights of the API roles", look)
