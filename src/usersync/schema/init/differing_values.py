"""Columns whose values in existing rows differ from the auth server's, and that no trigger updates."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from usersync.errors import DatabaseError
from usersync.schema.first_run import count_first_run
from usersync.sql.render import render_bundle
from usersync.transports.steps import read_only

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from usersync.config.settings import Settings
    from usersync.schema.inspection import Inspection
    from usersync.transports.steps import Steps

_KEPT = 'owner = "app" keeps the application\'s values'


def differing_values(
    settings: Settings, inspection: Inspection, names: Collection[str], *, is_ours: bool
) -> Steps[Mapping[str, str]]:
    """Why a column of ``settings`` gets owner = "app", by column.

    The rows of another role's table are not compared, because that could run code of the role.
    """
    if not names:
        return {}
    columns = tuple(each for each in settings.columns if each.name in names)
    bundle = render_bundle(replace(settings, columns=columns))
    try:
        counted = (yield from read_only(count_first_run(bundle, inspection))) if is_ours else None
    except DatabaseError:
        counted = None
    if counted is None:
        return dict.fromkeys(names, f"existing rows could not be compared, and {_KEPT}")
    return {name: _differs(times) for name, times in counted["columns"].items() if name in names}


def _differs(times: int) -> str:
    rows = "1 existing row holds" if times == 1 else f"{times:,} existing rows hold"
    return f"{rows} another value than the auth server, and {_KEPT}"
