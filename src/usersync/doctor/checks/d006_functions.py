"""The seed's second verification, and more: every function exists and is what would be installed now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.audit.tracking.generate import is_of_tracked_table
from usersync.doctor.context import Context, Definition, Verdict, number, settled
from usersync.models import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.models import Change
    from usersync.transports.steps import Steps


def look(context: Context) -> Steps[Verdict]:
    changes = [each for each in _own_functions(context) if context.order_known or _touched(each, context)]
    return settled(
        Verdict(
            f"{number(len(context.bundle.functions), 'function')}, as release and settings have it",
            tuple(
                Finding("D006", change.subject, _what_is_wrong(change), "usersync apply", safe=True)
                for change in changes
            ),
        )
    )


def _own_functions(context: Context) -> Iterator[Change]:
    """Those that are always there; the functions of tracked tables are D029's."""
    for change in context.changes("function"):
        if not is_of_tracked_table(change.subject.removeprefix("function ")):
            yield change


def _touched(change: Change, context: Context) -> bool:
    """Whether somebody did something to it, whatever would be installed now."""
    signature = change.subject.removeprefix("function ")
    noted = (context.inspection.noted or {})["functions"].get(signature)
    present = context.inspection.catalog["functions"].get(signature)
    return change.kind != "replace" or noted is None or noted["fingerprint"] != present


def _what_is_wrong(change: Change) -> str:
    return (
        f"the {change.subject} is missing"
        if change.kind == "create"
        else f"the {change.subject}: {change.reason}"
    )


CHECK = Definition("D006", "Functions as released", look)
