"""Whether the owner of the functions has the privileges that they need, for users and for events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict
from usersync.models import Finding
from usersync.transports.steps import query_row

if TYPE_CHECKING:
    from usersync.transports.steps import Steps

_OWNER = "select pg_get_userbyid(nspowner) as owner from pg_namespace where nspname = 'usersync'"


def look(context: Context) -> Steps[Verdict]:
    owner = (yield from query_row(_OWNER))["owner"]
    findings = tuple(
        Finding("D008", each.subject, str(each), each.fix)
        for each in context.inspection.missing
        if each.part == "owner"
    )
    return Verdict(f"{owner} has all privileges that they need", findings)


CHECK = Definition("D008", "Rights of the functions' owner", look)
