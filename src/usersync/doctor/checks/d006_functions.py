"""Whether every function exists and has the text of this release and these settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.audit.tracking.generate import is_of_tracked_table
from usersync.doctor.context import Context, Definition, Verdict, number, without_query
from usersync.models import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.models import Change
    from usersync.transports.steps import Steps


def look(context: Context) -> Steps[Verdict]:
    changes = [each for each in _own_functions(context) if context.order_known or _was_changed(each, context)]
    return without_query(
        Verdict(
            f"{number(len(context.bundle.functions), 'function')}, as released",
            tuple(
                Finding("D006", change.subject, _what_is_wrong(change), "usersync apply", safe=True)
                for change in changes
            ),
        )
    )


def _own_functions(context: Context) -> Iterator[Change]:
    """The functions of every installation. D029 checks those of tracked tables."""
    for change in context.changes("function"):
        if not is_of_tracked_table(change.subject.removeprefix("function ")):
            yield change


def _was_changed(change: Change, context: Context) -> bool:
    """Whether the function was changed or dropped since it was installed."""
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
