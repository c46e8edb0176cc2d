"""Spools of this machine: undelivered events of dead processes, quarantined events, damaged files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.audit.spool.listing import survey_spools

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from usersync.audit.spool.listing import SpoolSurvey


@dataclass(frozen=True)
class Leftover:
    """A file of a spool, or a spool that cannot be read."""

    name: str
    events: int
    oldest_at: datetime | None
    note: str


def leftovers(root: Path) -> tuple[Leftover, ...]:
    """Events of dead processes, quarantined events and damaged files. Reads files. Raises OSError."""
    return tuple(found for each in survey_spools(root) for found in _of(each))


def _of(spool: SpoolSurvey) -> Iterator[Leftover]:
    name = spool.directory.name
    if spool.problem:
        yield Leftover(name, 0, None, f"not read: {spool.problem}")
    for path in spool.damaged:
        yield Leftover(name, 0, None, f"damaged: {path.name}")
    for file in spool.files:
        notes = []
        if file.problem:
            notes.append(f"unreadable: {file.problem}")
        if file.waiting and not file.owned:
            notes.append(
                f"process {file.pid or '?'} is dead; events for {file.target or 'an unknown database'}"
            )
        if file.quarantined_events:
            notes.append(f"{file.quarantined_events:,} quarantined")
        if notes:
            waiting = 0 if file.owned else file.waiting
            yield Leftover(name, waiting, file.oldest_at if waiting else None, ", ".join(notes))
