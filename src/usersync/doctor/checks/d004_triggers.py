"""Whether the three triggers exist, are enabled, and are as installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict, without_query
from usersync.models import Finding
from usersync.schema.adoption import adoption
from usersync.schema.trigger_names import OWN_TRIGGERS, is_made_by, renamed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from usersync.schema.trigger_names import OwnTrigger
    from usersync.transports.steps import Steps


def look(context: Context) -> Steps[Verdict]:
    catalog = context.inspection.catalog
    present = {trigger["name"]: trigger for trigger in catalog["source_triggers"]}
    names = adoption(context.settings, catalog, adopt=False).names
    findings = [
        finding
        for own, (usual, sql) in zip(OWN_TRIGGERS, context.bundle.triggers, strict=True)
        for finding in _findings(own, names[usual], renamed(sql, usual, names[usual]), present)
    ]
    return without_query(Verdict("all three exist", (*context.found("D004"), *findings)))


def _findings(
    own: OwnTrigger, name: str, sql: str, present: Mapping[str, Mapping[str, Any]]
) -> Iterator[Finding]:
    was, subject = present.get(name), f"trigger {name}"
    if was is None:
        message = f"the trigger {name} is missing: it syncs no user"
        yield Finding("D004", subject, message, "usersync apply", safe=True)
    elif not was["ours"]:
        message = (
            f"the trigger {name} was created again by the application: it runs {was['function']}() "
            f"instead of {own.function}()"
        )
        yield Finding("D004", subject, message, "usersync apply")
    elif was["enabled"] != "O":
        message = f"the trigger {name} is disabled: it syncs no user"
        yield Finding("D004", subject, message, "usersync apply", safe=True)
    elif not is_made_by(was["definition"], sql):
        message = f"the trigger {name} is not as installed: {was['definition']}"
        yield Finding("D004", subject, message, sql.strip(), safe=True)


CHECK = Definition("D004", "Triggers on the auth server's table", look)
