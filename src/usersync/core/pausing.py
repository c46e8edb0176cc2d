"""Pausing the triggers: paused triggers record which users change, and sync no user."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.errors import BusyError
from usersync.models import Pause
from usersync.transports.steps import anything, operate, optional, time_text

if TYPE_CHECKING:
    from usersync.transports.steps import Steps

#: The SQLSTATE under which the failures table names users who were not synced during a pause.
NOTED = "US004"

_PAUSE = {"paused_at": time_text, "by": str}


@dataclass(frozen=True)
class Ended:
    """The pause that was ended, or None if there was none."""

    pause: Pause | None
    #: Set if a transaction that began during the pause has not ended: its recorded users are not visible.
    pending: BusyError | None = None


def pause(*, by: str | None = None) -> Steps[tuple[Pause, bool]]:
    """Pause the triggers. Returns the pause, and whether it began with this call."""
    row = yield from operate("pause", returns=_PAUSE | {"is_new": bool}, by=by)
    return Pause.from_json(row), bool(row["is_new"])


def end_pause(*, by: str | None = None) -> Steps[Ended]:
    """End the pause, and wait for the transactions that began during it."""
    row = yield from operate("resume", returns=optional(_PAUSE), by=by)
    ended = Pause.from_json(row) if row else None
    try:
        yield from operate("await_paused", returns=anything)
    except BusyError as error:
        return Ended(ended, error)
    return Ended(ended)
