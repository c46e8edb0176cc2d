"""Faults: the error of a refused statement, the function that raised it, and the function's trigger."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usersync.schema.trial.observation import Fault
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from usersync.transports.steps import Row, Steps

_TRIGGER = """
    select tgname || ' on ' || tgrelid::regclass as trigger
    from pg_trigger
    where tgfoid::regprocedure = any(array(
            select to_regprocedure(name) from unnest(%(functions)s::text[]) as name
        ))
        and not tgisinternal
    order by array_position(%(functions)s::text[], tgfoid::regprocedure::text) desc, 1
    limit 1
"""


#: The signatures in an error context, the innermost first. The context is localized. It has a line for each
#: function in a procedural language.
_FUNCTION = re.compile(r"^.*\bPL/[a-zA-Z0-9]+.*?([\w.$\"]+\([^()\n]*\))", re.MULTILINE)


def fault_of(cause: psycopg.Error) -> Steps[Fault]:
    """The fault of an error in a statement of the auth server."""
    said = cause.diag
    functions = _FUNCTION.findall(said.context or "")
    return Fault(
        cause.sqlstate,
        (said.message_primary or str(cause)).strip(),
        said.constraint_name,
        said.column_name,
        functions[0] if functions else None,
        (yield from _trigger_of(functions)),
    )


def fault_of_failure(row: Row) -> Steps[Fault]:
    """The fault of a row of usersync.sync_failures."""
    raised_in = _signature(row["raised_in"]) if row["raised_in"] else None
    return Fault(
        row["sqlstate"],
        row["message"],
        row["constraint_name"],
        row["column_name"],
        raised_in,
        (yield from _trigger_of([raised_in] if raised_in else [])),
    )


def _signature(raised_in: str) -> str:
    """The signature in a context such as ``public.f() line 3 at RAISE``."""
    return raised_in.partition(") ")[0].rstrip(")") + ")"


def _trigger_of(functions: Sequence[str]) -> Steps[str | None]:
    rows = (yield from query(_TRIGGER, functions=list(functions))) if functions else []
    return rows[0]["trigger"] if rows else None
