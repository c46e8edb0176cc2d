"""Erases a user's personal data from the events in spool files on this machine.

This includes files of living processes: they are rewritten, so that neither free pages nor the WAL keep a
copy. An event that such a process has already read for sending is delivered unchanged.
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
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from usersync.audit.erasure import PersonalKeys

_BUSY_TIMEOUT_S = 5.0
_BATCH = 100

# record() waits for a rewrite, and uses memory if it takes long. A larger file is reported, not rewritten.
_MOST_REWRITTEN = 64 << 20

_ID_FIELDS = ("user_id", "actor_id", "entity_id")


@dataclass(frozen=True)
class SpoolErasure:
    """The number of events that held personal data, and the files that could not be read."""

    events: int = 0
    unread: tuple[Path, ...] = ()
    #: Files of which an old copy may remain on disk until the process that has them open ends.
    held: tuple[Path, ...] = ()


def erase_in_spools(root: Path, user_id: UUID, words: PersonalKeys, *, dry_run: bool = False) -> SpoolErasure:
    """Erase in each spool below ``root``. Raises ``SettingsError`` if a directory is not readable."""
    total = 0
    unread: list[Path] = []
    held: list[Path] = []
    try:
        spools = survey_spools(root)
    except OSError as error:
        raise SettingsError(
            f"cannot read {root}: {error.strerror}", hint="Spools are private to the account that records."
        ) from error
    for spool in spools:
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


def _erase_in_file(path: Path, user_id: UUID, words: PersonalKeys, *, dry_run: bool) -> tuple[int, bool]:
    """Return the number of changed events, and whether no copy remains in the file."""
    with closing(connect(path, _BUSY_TIMEOUT_S, read_only=dry_run)) as connection:
        # Checkpoints are left to the process that owns the file.
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
    """Overwrite deleted content in the file and its WAL. False if that was not possible."""
    if path.stat().st_size > _MOST_REWRITTEN:
        return False
    try:
        connection.execute("vacuum")
        ((busy, *_),) = connection.execute("pragma wal_checkpoint(truncate)").fetchall()
    except sqlite3.OperationalError:
        return False
    return not busy


def _batches(
    connection: sqlite3.Connection, table: str, user_id: str, words: PersonalKeys
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
        # If the event was delivered meanwhile, it is no longer in the file. Quarantined events are unique.
        update = f"update or replace {table} set event = ? where number = ? and event = ?"
        connection.execute(update, (after, number, before))


def erased(payload: bytes, user_id: str, words: PersonalKeys) -> bytes:
    """A spooled event without the user's personal data; unchanged bytes if it has none."""
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
