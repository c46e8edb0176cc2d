"""Which roles may call usersync's functions or read its tables, as has_…_privilege() answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict
from usersync.models import Finding
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.core.exposed_objects import ExposedObject
    from usersync.transports.steps import Row, Steps

_NOT_CALLABLE = """
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
    not_callable = yield from query(_NOT_CALLABLE)
    findings = tuple(_findings(context.inspection.opened, not_callable))
    return Verdict("only service_role may call usersync's functions", findings)


def _findings(opened: tuple[ExposedObject, ...], not_callable: list[Row]) -> Iterator[Finding]:
    for each in opened:
        may = f"{', '.join(each.roles)} may {'call' if each.kind == 'function' else 'use'} {each.label}"
        yield Finding("D009", each.label, may, each.revoke, safe=each.direct)
    for row in not_callable:
        yield Finding(
            "D009",
            f"function {row['object']}",
            f"service_role may not call {row['object']}, so the Data API cannot",
            f"grant execute on function {row['object']} to service_role;",
            safe=True,
        )


CHECK = Definition("D009", "Rights of the API roles", look)
