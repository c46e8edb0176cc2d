"""One spool file: an SQLite database in WAL mode, with one writing process.

Events are committed before ``append`` returns, with ``synchronous=OFF``: SQLite passes the data to the
operating system and does not wait for the disk. "If the application running SQLite crashes, the data will be
safe" (sqlite.org/pragma.html#pragma_synchronous), including after kill -9. A power failure may lose the
newest events or, in the worst case, damage the file, which is then renamed and kept.

The writer thread runs checkpoints over its own connection with ``synchronous=NORMAL``, so that ``record()``
never waits for one.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from usersync.audit.spool import file_format
from usersync.audit.spool.binding import DatabaseBinding, Destination, Origin
from usersync.audit.spool.private import connect, create_file
from usersync.audit.spool.source import fitting
from usersync.audit.spool.window import Keep, Window
from usersync.transports.fork_gate import gate

if TYPE_CHECKING:
    from pathlib import Path

    from usersync.audit.spool.source import Entry
    from usersync.core.position import DatabasePosition

# Each event writes one page to the WAL. SQLite's default of 4096 is twice what most events need.
_PAGE_SIZE = 2048
_DELETED_AT_ONCE = 100

_ALL_QUARANTINED = "select at_ms, event, reason from refused order by number"
_CHECKPOINT_BYTES = 16 << 20

# In batches. Each delivered batch removes one kept batch, and more if the window has shrunk.
_PRUNED_AT_ONCE = 4

# No other process writes events to the file, but a tool may read it, and record() waits as long as this
# connection waits for the tool.
_BUSY_TIMEOUT_S = 0.25

_NO_DESTINATION, _NO_KEEP = Destination(), Keep()


class Spool:
    """A source for the writer. Any thread may call ``append()``; only the writer's thread calls the rest.

    Every method may raise ``sqlite3.Error``. The file is private to its owner from the start.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int,
        *,
        maintained: bool = True,
        destination: Destination = _NO_DESTINATION,
        keep: Keep = _NO_KEEP,
    ) -> None:
        """With ``maintained``, a writer calls ``maintain()``; otherwise ``append`` runs checkpoints when due.

        ``destination`` is where this process sends its events; ``keep`` is the window of delivered events. If
        the file exists, its stored values are used.
        """
        self.path = path
        create_file(path)
        self.last = self.done = self.quarantined_count = self.sent_again = 0
        self._unnoted: DatabasePosition | None = None
        self._lock = threading.RLock()
        self._max_pages = max(16, max_bytes // _PAGE_SIZE)
        # Size of the WAL in bytes. SQLite reports it only at a checkpoint.
        self._in_wal = self._wal_bytes()
        self._recorder = self._connect(is_trusted=path.stat().st_size == 0)
        try:
            self._recorder.execute(f"pragma page_size = {_PAGE_SIZE}")
            self._recorder.execute("pragma journal_mode = wal")
            if not maintained:
                self._recorder.execute("pragma wal_autocheckpoint = 1000")
            file_format.create(self._recorder, destination, keep.ms)
            self._limit(self._recorder)
            self.done, _ = file_format.done_in(self._recorder)
            ((newest,),) = self._recorder.execute("select coalesce(max(number), 0) from events").fetchall()
            self.last = max(newest, self.done)
            self.binding = DatabaseBinding(destination, file_format.origin_of(self._recorder), self._note)
            self._window = self._load_window(keep, max_bytes)
            self._batch = file_format.batch_in(self._recorder)
            self._identity = [each.stat() for each in files_of(path)[:2]]
        except BaseException:
            self._recorder.close()
            raise
        self._drain: sqlite3.Connection | None = None

    def append(self, at_ms: int, payload: bytes) -> None:
        """Store an event so that it survives this process. Takes microseconds."""
        with self._lock:
            while not self._insert(self.last + 1, at_ms, payload):
                pass

    def _insert(self, number: int, at_ms: int, payload: bytes) -> bool:
        """False if a signal handler interrupted and used this number for its own event."""
        try:
            self._recorder.execute("insert into events values (?, ?, ?)", (number, at_ms, payload))
            self._in_wal += _PAGE_SIZE + len(payload)
            inserted = True
        except sqlite3.IntegrityError:
            inserted = False
        # Numbers are committed in order, so that the writer skips none.
        self.last = max(self.last, number)
        return inserted

    def _load_window(self, keep: Keep, max_bytes: int) -> Window:
        said = file_format.number(file_format.about_of(self._recorder).get("keep_ms"))
        batches = self._recorder.execute(
            "select through, at_ms, bytes from delivered order by through"
        ).fetchall()
        known = [
            (through, at_ms, size)
            for through, at_ms, size in batches
            if isinstance(at_ms, int) and isinstance(size, int)
        ]
        # Kept events must not use the room of waiting events.
        return Window(Keep(keep.ms if said is None else said, min(keep.size, max_bytes // 4)), known)

    def read(self, events: int, size: int) -> list[Entry]:
        """See ``EventSource``."""
        return self._read(self.done, self._batch.end(self.done, self.last), events, size)

    def delivered(self, after: int, events: int, size: int) -> list[Entry]:
        """Delivered and kept events with a number larger than ``after``."""
        return self._read(after, self.done, events, size)

    def _read(self, after: int, through: int, events: int, size: int) -> list[Entry]:
        wanted = (
            "select number, event, typeof(event) from events where number > ? and number <= ? "
            "order by number limit ?"
        )
        with gate:
            rows = self._writer.execute(wanted, (after, through, events)).fetchall()
        return fitting(rows, size)

    def name_batch(self, through: int) -> str:
        """See ``EventSource``. If the disk is full, only this process knows the id."""
        named = self._batch.named(self.done, through)
        if named is not self._batch:
            self._batch = named
            self._in_wal += _PAGE_SIZE
            with suppress(sqlite3.Error), gate, self._lock:
                file_format.keep_batch(self._writer, named)
        return named.id

    def discard(self, through: int, size: int = 0) -> None:
        """Mark the events up to this number, of ``size`` bytes, as delivered.

        They count as delivered even if this fails, for example because the disk is full. They are not read
        again; a process that takes the file over sends them again, and the database ignores duplicates.
        """
        first, self.done = self.done, max(self.done, through)
        if self._window.is_kept:
            batch = (through, time.time_ns() // 1_000_000, size)
            self._in_wal += _PAGE_SIZE
            try:
                with gate, self._lock:
                    self._writer.execute("insert or replace into delivered values (?, ?, ?)", batch)
            except sqlite3.Error:
                # The disk or the file is full: waiting events need the room more than delivered ones.
                self._window.discard_through(through)
                self._delete(first, through)
                return
            self._window.add(*batch)
            if self._unnoted is not None:
                self._note(self._unnoted)
        else:
            self._delete(first, through)

    def _delete(self, first: int, through: int) -> None:
        self._in_wal += _PAGE_SIZE * (through - first)
        # In small steps, because record() waits for the lock meanwhile.
        for upto in (*range(first + _DELETED_AT_ONCE, through, _DELETED_AT_ONCE), through):
            with gate, self._lock:
                self._writer.execute("delete from events where number <= ?", (upto,))

    def prune(self, now_ms: int) -> None:
        """Delete delivered events whose retention has passed.

        At ``now_ms`` the database was still on the remembered timeline.
        """
        for _ in range(_PRUNED_AT_ONCE):
            first = self._window.expired
            if (through := self._window.pop_expired(now_ms)) is None:
                return
            self._delete(first or through - 1, through)
            with gate, self._lock:
                self._writer.execute("delete from delivered where through <= ?", (through,))

    @property
    def keeps(self) -> bool:
        """Whether any delivered events are kept."""
        return bool(self._window)

    @property
    def expires_ms(self) -> int:
        """When the last kept event expires, in milliseconds since 1970."""
        return self._window.expires_ms

    @property
    def expired(self) -> int:
        """How many delivered events are no longer kept."""
        return self._window.expired

    def confirm(self, destination: Destination) -> None:
        """Bind the events to the database of ``destination``, whatever the file stores."""
        with gate, self._lock:
            file_format.confirm(self._writer, destination)
        self.binding = DatabaseBinding(destination, Origin(destination), self._note)

    def _note(self, position: DatabasePosition) -> None:
        """Remember the database's position. Retried later if the disk is full, after deliveries have made
        room.
        """
        self._unnoted = position
        with suppress(sqlite3.Error), gate, self._lock:
            file_format.remember(self._writer, position)
            self._unnoted = None

    def quarantine(self, entry: Entry, reason: str) -> None:
        """Move the oldest event to the table ``refused``: the spool quarantines it."""
        move = (
            "insert or ignore into refused (at_ms, event, reason) select at_ms, event, ? from events "
            "where number = ?"
        )
        self.quarantined_count += 1
        with gate, self._lock:
            self._writer.execute(move, (reason, entry.number))
            self._writer.execute("delete from events where number = ?", (entry.number,))
        self.done = max(self.done, entry.number)

    def quarantined(self) -> list[tuple[int, bytes, str]]:
        """The quarantined events: when they were recorded (ms since 1970), the event, and the reason."""
        with gate:
            rows = self._writer.execute(_ALL_QUARANTINED).fetchall()
        return [(at_ms, event, file_format.text(reason)) for at_ms, event, reason in rows]

    def add_quarantined(self, rows: list[tuple[int, bytes, str]]) -> None:
        """Copy quarantined events from another file."""
        with gate, self._lock:
            self._writer.executemany(
                "insert or ignore into refused (at_ms, event, reason) values (?, ?, ?)", rows
            )

    def files_exist(self) -> bool:
        """Whether the opened files still exist: SQLite would continue to write to removed files."""
        try:
            found = [each.stat() for each in files_of(self.path)[:2]]
        except FileNotFoundError:
            return False
        return all(map(os.path.samestat, self._identity, found))

    def take_over(self, old: Spool) -> None:
        """Copy the waiting events of another spool, with their numbers. Its files need not exist any more.

        Its delivered events are not copied: there may be many, and record() waits meanwhile.
        """
        with self._lock, old.lock:
            # Not the writer's connection: it may not be open yet, and opening it needs the file.
            events = old._recorder.execute(
                "select number, at_ms, event from events where number > ?", (old.done,)
            )
            quarantined = [
                (at_ms, event, file_format.text(reason))
                for at_ms, event, reason in old._recorder.execute(_ALL_QUARANTINED)
            ]
            self._recorder.execute("begin")
            try:
                self._recorder.executemany("insert into events values (?, ?, ?)", events)
                self._recorder.executemany(
                    "insert or ignore into refused (at_ms, event, reason) values (?, ?, ?)", quarantined
                )
                if (position := old.binding.origin.position) is not None:
                    file_format.remember(self._recorder, position)
            except BaseException:
                self._recorder.execute("rollback")
                raise
            self._recorder.execute("commit")
            self.last, self.done = old.last, old.done
            self._window.expired = old.done
            self.binding.origin = old.binding.origin

    def oldest_ms(self) -> int | None:
        """When the oldest event was recorded, in milliseconds since 1970. Any thread may call it."""
        oldest = "select at_ms from events where number > ? order by number limit 1"
        with self._lock:
            row = self._recorder.execute(oldest, (self.done,)).fetchone()
        return file_format.number(row[0]) if row else None

    def __len__(self) -> int:
        return max(0, self.last - self.done)

    def __bool__(self) -> bool:
        # Otherwise an empty spool would be false, and "spool or another" the other.
        return True

    def maintain(self) -> None:
        """Run a checkpoint if the WAL is large. Recording continues meanwhile."""
        if self._in_wal > _CHECKPOINT_BYTES:
            with gate:
                self._checkpoint()

    def _checkpoint(self) -> None:
        writer = self._writer
        # Only here: a delete that waits for the disk would delay record().
        writer.execute("pragma synchronous = normal")
        try:
            writer.execute("pragma wal_checkpoint(passive)").fetchall()
        finally:
            writer.execute("pragma synchronous = off")
        # The second checkpoint has little to copy and then restarts the WAL. While another process reads the
        # file, the restart fails, and the next checkpoint tries again.
        writer.execute("pragma busy_timeout = 0")
        try:
            with self._lock:
                writer.execute("pragma wal_checkpoint(restart)").fetchall()
        finally:
            writer.execute(f"pragma busy_timeout = {int(_BUSY_TIMEOUT_S * 1000)}")
        self._in_wal = 0

    def close(self) -> None:
        """Close both connections. The file keeps its events."""
        with self._lock:
            for connection in (self._drain, self._recorder):
                if connection is not None:
                    connection.close()

    def remove(self) -> None:
        """Close the connections and delete the file."""
        self.close()
        remove_files(self.path)

    def rename_damaged(self) -> Path:
        """Rename a damaged file, so that no process opens it again. It is never deleted."""
        away = rename_damaged(self.path)
        self.close()
        return away

    @property
    def lock(self) -> threading.RLock:
        """Held while an event is recorded, or while the recorder's connection is used to read."""
        return self._lock

    def _wal_bytes(self) -> int:
        try:
            return files_of(self.path)[1].stat().st_size
        except OSError:
            return 0

    @property
    def _writer(self) -> sqlite3.Connection:
        if self._drain is None:
            self._drain = self._connect()
            self._limit(self._drain)
        return self._drain

    def _connect(self, *, is_trusted: bool = False) -> sqlite3.Connection:
        connection = connect(self.path, _BUSY_TIMEOUT_S, is_trusted=is_trusted)
        connection.execute("pragma synchronous = off")
        connection.execute("pragma wal_autocheckpoint = 0")
        return connection

    def _limit(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"pragma max_page_count = {self._max_pages}")


def files_of(path: Path) -> list[Path]:
    """The file, its WAL, and the index of the WAL."""
    return [path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")]


def remove_files(path: Path) -> None:
    """Delete a spool file, then its WAL: without the file, the WAL is not used by any process."""
    for each in files_of(path):
        each.unlink(missing_ok=True)


def rename_damaged(path: Path) -> Path:
    """Rename a spool file. Returns its new name."""
    away = path.with_suffix(f".damaged-{time.time_ns()}")
    for old, new in zip(files_of(path), files_of(away), strict=True):
        if old.exists():
            old.rename(new)
    return away


def is_damaged(error: Exception) -> bool:
    """Whether SQLite's error means that the file is damaged."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
