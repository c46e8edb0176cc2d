"""The tables of a spool file.

::

    events      number, at_ms, event     up to done: delivered, and kept for a while
    delivered   through, at_ms, bytes    a row for each batch: done is the newest
    refused     number, at_ms, event, reason    quarantined events
    about       name, value              version, address, project, position, keep_ms
    sending     id, after, through       the batch that is being sent to a stream

Releases before 0.2 had ``events`` and ``refused`` alone, and deleted what was delivered. Their files are read
as they are. What a column holds need not be of its type: the file may have been damaged or written by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.audit.spool.batch import NO_BATCH, Batch
from usersync.audit.spool.binding import Destination, Origin
from usersync.core.position import DatabasePosition

if TYPE_CHECKING:
    import sqlite3

_VERSION = "2"

_TABLES = """
    create table if not exists events (number integer primary key, at_ms integer, event blob not null);
    create table if not exists refused (
        number integer primary key, at_ms integer, event blob not null unique, reason text
    );
    create table if not exists delivered (
        through integer primary key, at_ms integer not null, bytes integer not null
    );
    create table if not exists about (name text primary key, value text);
    create table if not exists sending (
        number integer primary key, id text not null, after integer not null, through integer not null
    );
"""


@dataclass(frozen=True)
class Contents:
    """A spool file's contents, read without taking it over."""

    origin: Origin
    waiting: int
    oldest_ms: int | None
    quarantined: int
    #: Delivered events that are kept; the time of the last delivery; and for how long they are kept.
    kept: int = 0
    delivered_ms: int | None = None
    keep_ms: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether the file has no tables: its process was killed while it created or removed the file."""
        return not (self.waiting or self.quarantined or self.kept)


def create(connection: sqlite3.Connection, destination: Destination, keep_ms: int) -> None:
    """Create missing tables. A new file stores its events' destination; an existing one is unchanged."""
    connection.execute("begin immediate")
    try:
        is_new = not _has_table(connection, "events")
        for table in _TABLES.split(";"):
            connection.execute(table)
        if is_new:
            said = {
                "version": _VERSION,
                "address": destination.address,
                "project": destination.project,
                "keep_ms": str(keep_ms),
            }
            connection.executemany("insert into about values (?, ?)", said.items())
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")


def origin_of(connection: sqlite3.Connection) -> Origin:
    """Return the database that a file's events are for."""
    about = about_of(connection)
    destination = Destination(about.get("address"), about.get("project"))
    return Origin(destination, DatabasePosition.read(about.get("position")), is_former="version" not in about)


def about_of(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the table ``about`` as a dict."""
    if not _has_table(connection, "about"):
        return {}
    rows = connection.execute("select name, value from about where value is not null").fetchall()
    return {text(name): text(value) for name, value in rows}


def remember(connection: sqlite3.Connection, position: DatabasePosition) -> None:
    """Store the position of the database that the events belong to."""
    said = {"version": _VERSION, "position": str(position)}
    connection.executemany("insert or replace into about values (?, ?)", said.items())


def confirm(connection: sqlite3.Connection, destination: Destination) -> None:
    """Bind the events to another database than the stored one."""
    said = {
        "version": _VERSION,
        "address": destination.address,
        "project": destination.project,
        "position": None,
    }
    connection.executemany("insert or replace into about values (?, ?)", said.items())


def keep_batch(connection: sqlite3.Connection, batch: Batch) -> None:
    """Store the batch that is being sent, in the only row."""
    values = (batch.id, batch.after, batch.through)
    connection.execute("insert or replace into sending values (1, ?, ?, ?)", values)


def batch_in(connection: sqlite3.Connection) -> Batch:
    """The batch that was being sent."""
    for batch_id, after, through in connection.execute("select id, after, through from sending").fetchall():
        if isinstance(after, int) and isinstance(through, int):
            return Batch(after, through, text(batch_id))
    return NO_BATCH


def look_into(connection: sqlite3.Connection) -> Contents:
    """Return the number of waiting events in a file, and their database."""
    if not (_has_table(connection, "events") and _has_table(connection, "refused")):
        return Contents(origin_of(connection), 0, None, 0)
    done, delivered_ms = done_in(connection)
    waiting, oldest = connection.execute(
        "select count(*), min(at_ms) from events where number > ?", (done,)
    ).fetchone()
    ((kept,),) = connection.execute("select count(*) from events where number <= ?", (done,)).fetchall()
    ((quarantined,),) = connection.execute("select count(*) from refused").fetchall()
    keep_ms = number(about_of(connection).get("keep_ms")) or 0
    return Contents(origin_of(connection), waiting, number(oldest), quarantined, kept, delivered_ms, keep_ms)


def done_in(connection: sqlite3.Connection) -> tuple[int, int | None]:
    """Return the number up to which events were delivered, and the time of the last delivery."""
    if not _has_table(connection, "delivered"):
        ((first,),) = connection.execute("select coalesce(min(number) - 1, 0) from events").fetchall()
        return first, None
    last = connection.execute("select through, at_ms from delivered order by through desc limit 1").fetchone()
    ((first,),) = connection.execute("select coalesce(min(number) - 1, 0) from events").fetchall()
    return (last[0], number(last[1])) if last is not None else (first, None)


def number(value: object) -> int | None:
    """Return a value of a column as a number; None if it is not one."""
    try:
        return int(value) if isinstance(value, int | str | bytes) else None
    except ValueError:
        return None


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    found = connection.execute("select 1 from sqlite_master where type = 'table' and name = ?", (name,))
    return found.fetchone() is not None


def text(value: object) -> str:
    """Return a value of a column as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
