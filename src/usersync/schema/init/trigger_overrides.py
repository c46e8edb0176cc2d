"""Columns whose written values triggers of the users table change: tested on one row, and rolled back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from usersync.schema.effects import UPDATE
from usersync.schema.init.survey import or_none, set_time_limit
from usersync.schema.network_calls import network_calls, sequence_uses
from usersync.sql.render import read_sql
from usersync.transports.steps import in_transaction, query, query_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from usersync.config.settings import Settings
    from usersync.schema.init.columns import Proposed
    from usersync.schema.inspection import Inspection
    from usersync.transports.steps import Steps

#: The test values, by category of the column's type. In lower case, as the auth server stores addresses.
_VALUES = {"S": "'usersync-trial@example.invalid'", "D": "timestamptz '2001-01-01 00:00:00+00'", "B": "true"}


def changed_on_write(
    settings: Settings, about: Mapping[str, Any], columns: Iterable[Proposed], inspection: Inspection
) -> Steps[frozenset[str]]:
    """The mirrored columns in which a trigger changes the value that an UPDATE writes.

    Nothing is tested if no trigger fires on UPDATE, if an effect of a trigger is not rolled back (a call to
    another server), or if the table belongs to another role, whose code we do not run.
    """
    triggers = [each for each in inspection.catalog["users_triggers"] if _fires(each)]
    if not triggers or not about["is_ours"] or (yield from _has_lasting_effects(settings)):
        return frozenset()
    categories = {each["name"]: each["category"] for each in about["columns"] if not each["is_array"]}
    wanted = list(_wanted(settings, categories, columns))

    def look() -> Steps[list[str]]:
        yield from set_time_limit()
        yield from query("set local lock_timeout = '500ms'")
        yield from query(
            "select set_config('usersync.survey', %(wanted)s, true), "
            "set_config('usersync.source', %(source)s, true)",
            wanted=json.dumps(wanted),
            source=settings.source_table.quoted,
        )
        return (yield from query_row(read_sql("survey/trigger_effects.sql")))["changed"]  # type: ignore[no-any-return]

    return frozenset((yield from or_none(in_transaction(look()))) or ())


def _has_lasting_effects(settings: Settings) -> Steps[bool]:
    """Whether an UPDATE has an effect that a rollback does not undo."""
    table = settings.users_table.quoted
    calls = yield from network_calls([table])
    numbers = yield from sequence_uses([table], table)
    events = [*(each.events for each in calls if each.is_immediate), *(each.events for each in numbers)]
    return any("update" in each for each in events)


def _fires(trigger: Mapping[str, Any]) -> bool:
    return bool(trigger["type"] & UPDATE and trigger["enabled"] != "D")


def _wanted(
    settings: Settings, categories: Mapping[str, str], columns: Iterable[Proposed]
) -> Iterator[dict[str, str]]:
    for each in columns:
        value = _VALUES.get(categories.get(each.name, ""))
        if value and each.entry and "from" in each.entry and each.entry.get("owner") != "app":
            yield {
                "table": settings.users_table.quoted,
                "column": each.name,
                "value": value,
                "key": settings.key,
            }
