"""What waits in spool files, for people who look. Takes nothing over and changes nothing."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from usersync.audit.directory import survey

if TYPE_CHECKING:
    from pathlib import Path

_PATIENCE_S = 1.0
_MOST_REFUSED = 1_000


@dataclass(frozen=True)
class Refused:
    """An event that the database could not take in any form."""

    recorded_at: datetime
    event: dict[str, Any]
    reason: str


@dataclass(frozen=True)
class SpoolFile:
    """One process's spool file."""

    path: Path
    #: The process that made the file; somebody else may have taken it over.
    pid: int | None
    #: Whether a living process has it; one that nobody has is taken over by the next that records.
    owned: bool
    size: int
    waiting: int
    oldest_at: datetime | None
    refused: tuple[Refused, ...]
    #: How many were refused, those beyond the first thousand included.
    refused_count: int
    #: Why the file could not be read, if it could not.
    problem: str | None = None


@dataclass(frozen=True)
class SpoolSurvey:
    """The spool of one database. ``damaged`` files were set aside and are for a human to look at."""

    directory: Path
    files: tuple[SpoolFile, ...]
    damaged: tuple[Path, ...]

    @property
    def waiting(self) -> int:
        """How many events wait."""
        return sum(file.waiting for file in self.files)

    @property
    def refused(self) -> int:
        """How many were set aside."""
        return sum(file.refused_count for file in self.files)


def survey_spools(root: Path) -> list[SpoolSurvey]:
    """Every database's spool below the spool directory. Raises OSError where it may not be read."""
    if not root.is_dir():
        return []
    return [survey_spool(each) for each in sorted(root.iterdir()) if stat.S_ISDIR(each.lstat().st_mode)]


def survey_spool(directory: Path) -> SpoolSurvey:
    """One database's spool; empty if the directory is not there."""
    files = tuple(_look(each.path, each.owned, each.size) for each in survey(directory))
    damaged = (path for path in directory.glob("*.damaged-*") if not path.name.endswith(("-wal", "-shm")))
    return SpoolSurvey(directory, files, tuple(sorted(damaged)))


def _look(path: Path, owned: bool, size: int) -> SpoolFile:
    pid = path.name.partition("-")[0]
    owner = int(pid) if pid.isdecimal() else None
    try:
        waiting, oldest_ms, refused, count = _read(path)
    except sqlite3.Error as error:
        return SpoolFile(path, owner, owned, size, 0, None, (), 0, problem=str(error))
    oldest = _moment(oldest_ms) if oldest_ms is not None else None
    return SpoolFile(path, owner, owned, size, waiting, oldest, refused, count)


def _read(path: Path) -> tuple[int, int | None, tuple[Refused, ...], int]:
    address = f"file:{quote(str(path))}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE_S)) as connection:
        waiting, oldest = connection.execute("select count(*), min(at_ms) from events").fetchone()
        (count,) = connection.execute("select count(*) from refused").fetchone()
        rows = connection.execute(
            "select at_ms, event, reason from refused order by number limit ?", (_MOST_REFUSED,)
        ).fetchall()
    refused = tuple(Refused(_moment(at_ms), _event(event), str(reason)) for at_ms, event, reason in rows)
    return waiting, oldest, refused, count


def _event(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"unreadable": f"{len(payload)} bytes"}


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
