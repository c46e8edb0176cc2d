"""Spool files in the format of releases before 0.2."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def old_spool_file(directory: Path, *actions: str) -> Path:
    """Write the spool file of a process that no longer runs, with one event for each action."""
    directory.mkdir(mode=0o700, parents=True)
    path = directory / "1-00.spool"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute(
            "create table events (number integer primary key, at_ms integer, event blob not null)"
        )
        connection.execute(
            "create table refused (number integer primary key, at_ms integer, event blob not null unique, "
            "reason text)"
        )
        connection.executemany(
            "insert into events (at_ms, event) values (0, ?)",
            [(b'{"action": "%s"}' % action.encode(),) for action in actions],
        )
    return path
