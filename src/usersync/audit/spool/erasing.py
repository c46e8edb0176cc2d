"""Erases what is personal of a user from the events that wait, or are kept, on this machine.

In a living process's files too: they are rewritten, so that neither free pages nor the WAL hold a copy.

Such a process may have read an event already that is on its way then, and arrives as it was.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.audit.spool.listing import survey_spools
from usersync.audit.spool.private import connect
from usersync.config.personal_data import erase_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from usersync.audit.erasure import Words

_PATIENCE_S = 5.0
_BATCH = 100

# Whoever records waits for it, and goes on in memory where it takes long. A larger file is named instead.
_MOST_REWRITTEN = 64 << 20

_ID_FIELDS = ("user_id", "actor_id", "entity_id")


@dataclass(frozen=True)
class SpoolErasure:
    """How many events had something personal in them; and the files that could not be looked into."""

    events: int = 0
    unread: tuple[Path, ...] = ()
    #: Files that a process holds open in such a way that an old copy may be left in them until it ends.
    held: tuple[Path, ...] = ()


def erase_in_spools(root: Path, user_id: UUID, words: Words, *, dry_run: bool = False) -> SpoolErasure:
    """Erase in each spool below ``root``. Raises OSError where that may not be read."""
    total = 0
    unread: list[Path] = []
    held: list[Path] = []
    for spool in survey_spools(root):
        unread += spool.damaged
        unread += [spool.directory] if spool.problem is not None else []
        for file in spool.files:
            try:
                found, is_clean = _erase_in_file(file.path, user_id, words, dry_run=dry_run)
            except (sqlite3.Error, OSError):
                unread.append(file.path)
            else:
                total += found
                held += [] if is_clean else [file.path]
    return SpoolErasure(total, tuple(unread), tuple(held))


def _erase_in_file(path: Path, user_id: UUID, words: Words, *, dry_run: bool) -> tuple[int, bool]:
    """How many events, and whether no copy is left in the file."""
    with closing(connect(path, _PATIENCE_S, read_only=dry_run)) as connection:
        # As for whoever else looks into a living process's file: checkpoints are its owner's business.
        connection.execute("pragma wal_autocheckpoint = 0")
        connection.execute("pragma secure_delete = on")
        total = 0
        for table in ("events", "refused"):
            for changed in _batches(connection, table, str(user_id), words):
                total += len(changed)
                if not dry_run:
                    _store(connection, table, changed)
        return total, dry_run or _leave_no_copy(connection, path)


def _leave_no_copy(connection: sqlite3.Connection, path: Path) -> bool:
    """Overwrite what deleted events left in the file and its WAL; whether that was possible."""
    if path.stat().st_size > _MOST_REWRITTEN:
        return False
    try:
        connection.execute("vacuum")
        ((busy, *_),) = connection.execute("pragma wal_checkpoint(truncate)").fetchall()
    except sqlite3.OperationalError:
        return False
    return not busy


def _batches(
    connection: sqlite3.Connection, table: str, user_id: str, words: Words
) -> Iterator[list[tuple[int, bytes, bytes]]]:
    last = -1
    while True:
        rows = connection.execute(
            f"select number, event from {table} where number > ? order by number limit {_BATCH}",
            (last,),
        ).fetchall()
        if not rows:
            return
        last = rows[-1][0]
        changed = [(number, before, erased(before, user_id, words)) for number, before in rows]
        yield [(number, before, after) for number, before, after in changed if after != before]


def _store(connection: sqlite3.Connection, table: str, changed: list[tuple[int, bytes, bytes]]) -> None:
    for number, before, after in changed:
        # Delivered meanwhile, the event is gone from here. Among the refused no two are alike.
        update = f"update or replace {table} set event = ? where number = ? and event = ?"
        connection.execute(update, (after, number, before))


def erased(payload: bytes, user_id: str, words: Words) -> bytes:
    """An event as it is spooled, without what is personal in it; the same bytes where there is nothing."""
    if not isinstance(payload, bytes) or user_id.encode() not in payload.lower():
        return payload
    try:
        event = json.loads(payload)
    except (ValueError, RecursionError):
        return payload
    if not isinstance(event, dict) or not _is_of(event, user_id):
        return payload
    found = words.own if str(event.get("entity_id")).lower() == user_id else words.common
    after: dict[str, Any] = {key: value for key, value in event.items() if key not in {"ip", "user_agent"}}
    after |= {name: erase_keys(event[name], found) for name in ("changes", "metadata") if name in event}
    return payload if after == event else json.dumps(after, separators=(",", ":")).encode()


def _is_of(event: dict[str, Any], user_id: str) -> bool:
    return any(str(event.get(name)).lower() == user_id for name in _ID_FIELDS)
