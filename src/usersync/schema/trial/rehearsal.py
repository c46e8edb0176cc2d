"""The second half of a trial: the flows with usersync's triggers, compared with those of today."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from usersync.schema.trial.comparison import NO_ROW, Difference, compare
from usersync.schema.trial.observer import observe
from usersync.schema.trial.timing import measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import psycopg

    from usersync.config.settings import Settings
    from usersync.models import Change
    from usersync.schema.trial.observation import Timing, Trial

#: Lets a statement leave out work that no flow of the rehearsal uses.
_REHEARSAL = "set local usersync.is_rehearsal = 'yes'"


@dataclass(frozen=True)
class Rehearsal:
    """The flows without and with the changes, and the differences between the two."""

    before: Trial
    after: Trial
    differences: tuple[Difference, ...]
    timings: tuple[Timing, ...] = ()

    @property
    def to_accept(self) -> tuple[Difference, ...]:
        """The differences that a person has to accept."""
        return tuple(each for each in self.differences if each.must_be_accepted)


def rehearse(
    connection: psycopg.Connection[Any],
    settings: Settings,
    before: Trial,
    changes: Sequence[Change],
    *,
    call_out: bool = False,
) -> Rehearsal:
    """Try the flows again, each in a transaction that makes the changes first, and compare. Blocks.

    ``before`` is the result of ``observe()``. The connection must be in autocommit mode and in no
    transaction. Each flow locks the auth server's table against writes.
    """
    tried = [each.flow for each in before if each.state != "not tried"]
    keys = {flow: keys for flow, keys in before.metadata_keys.items() if before[flow].state == "accepted"}
    first = [_REHEARSAL, *(change.sql for change in changes if change.sql)]
    after = observe(
        connection, settings, flows=tried, call_out=call_out, times=1, first=first, metadata_keys=keys
    )
    found = compare(before, after, str(settings.users_table))
    differences = tuple(_explained(each, settings) for each in found)
    timings = (
        ()
        if any(each.must_be_accepted for each in differences)
        else measure(connection, settings, after, first)
    )
    return Rehearsal(before, after, differences, timings)


def _explained(difference: Difference, settings: Settings) -> Difference:
    """The difference with its cause, if the setting ``skip`` causes it."""
    if difference.message != NO_ROW or difference.subject != str(settings.users_table) or not settings.skip:
        return difference
    kinds = ", ".join(f'"{kind}"' for kind in settings.skip)
    cause = f"The setting skip = [{kinds}] gives such users no row. To give them one, change skip"
    return replace(difference, message=f"{difference.message}. {cause}")
