"""Reports the contents of spool files. Takes nothing over and changes nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from usersync.audit.spool.directory import survey
from usersync.audit.spool.file_format import look_into, number, text
from usersync.audit.spool.private import NotPrivateError, connect

if TYPE_CHECKING:
    from pathlib import Path

    from usersync.audit.spool.file_format import Contents

_BUSY_TIMEOUT_S = 1.0
_MOST_QUARANTINED = 1_000


@dataclass(frozen=True)
class QuarantinedEvent:
    """An event that the spool quarantined because the database takes it in no form."""

    recorded_at: datetime
    event: dict[str, Any]
    reason: str


@dataclass(frozen=True)
class SpoolFile:
    """One process's spool file."""

    path: Path
    #: The process that created the file; another process may have taken it over.
    pid: int | None
    #: Whether a living process holds it. Otherwise the next process that records takes it over.
    owned: bool
    size: int
    waiting: int
    oldest_at: datetime | None
    quarantined: tuple[QuarantinedEvent, ...]
    #: The number of quarantined events, including those beyond the first thousand.
    quarantined_events: int
    #: Delivered events that are kept for a while; see AuditLog's ``keep_delivered``. They do not wait.
    kept: int = 0
    #: The database that its events are for, without a password; None if unknown.
    target: str | None = None
    #: The id of the installation; None before the first contact.
    installation: str | None = None
    #: Why the file could not be read, or None.
    problem: str | None = None


@dataclass(frozen=True)
class SpoolSurvey:
    """The spool of one database. ``damaged`` files were renamed and are kept for inspection."""

    directory: Path
    files: tuple[SpoolFile, ...]
    damaged: tuple[Path, ...]
    #: Why the directory was not read (another account owns it), or None.
    problem: str | None = None

    @property
    def waiting(self) -> int:
        """The number of waiting events."""
        return sum(file.waiting for file in self.files)

    @property
    def quarantined(self) -> int:
        """The number of quarantined events."""
        return sum(file.quarantined_events for file in self.files)


def survey_spools(root: Path) -> list[SpoolSurvey]:
    """Every database's spool below the spool directory. Raises OSError if the directory is not readable."""
    if not root.is_dir():
        return []
    return [survey_spool(each) for each in sorted(root.iterdir()) if each.is_symlink() or each.is_dir()]


def survey_spool(directory: Path) -> SpoolSurvey:
    """One database's spool; empty if the directory does not exist."""
    try:
        found = survey(directory)
    except NotPrivateError as error:
        return SpoolSurvey(directory, (), (), str(error))
    files = tuple(_look(each.path, each.owned, each.size) for each in found)
    damaged = (path for path in directory.glob("*.damaged-*") if not path.name.endswith(("-wal", "-shm")))
    return SpoolSurvey(directory, files, tuple(sorted(damaged)))


def _look(path: Path, owned: bool, size: int) -> SpoolFile:
    pid = path.name.partition("-")[0]
    owner = int(pid) if pid.isdecimal() else None
    try:
        contents, quarantined = _read(path)
    except (sqlite3.Error, OSError) as error:
        return SpoolFile(path, owner, owned, size, 0, None, (), 0, problem=str(error))
    return SpoolFile(
        path,
        owner,
        owned,
        size,
        contents.waiting,
        _moment(contents.oldest_ms),
        quarantined,
        contents.quarantined,
        contents.kept,
        None if contents.origin.is_former else contents.origin.target,
        contents.origin.position.installation if contents.origin.position else None,
    )


def _read(path: Path) -> tuple[Contents, tuple[QuarantinedEvent, ...]]:
    with closing(connect(path, _BUSY_TIMEOUT_S, read_only=True)) as connection:
        contents = look_into(connection)
        rows = (
            connection.execute(
                "select at_ms, event, reason from refused order by number limit ?", (_MOST_QUARANTINED,)
            ).fetchall()
            if contents.quarantined
            else []
        )
    return contents, tuple(
        QuarantinedEvent(_moment(number(at_ms)) or _NEVER, _event(event), text(reason))
        for at_ms, event, reason in rows
    )


def _event(payload: object) -> dict[str, Any]:
    try:
        found = json.loads(payload) if isinstance(payload, bytes) else None
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    return {"unreadable": f"{len(payload)} bytes" if isinstance(payload, bytes) else type(payload).__name__}


_NEVER = datetime.fromtimestamp(0, UTC)


def _moment(milliseconds: int | None) -> datetime | None:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds is not None else None
    except (ValueError, OverflowError, OSError):
        return None
