"""Starts processes that record events, and kills them at random moments. Every id that they return must be
stored.

The suite kills some tens of processes, ``bench/`` a thousand. Run as a script, this is the process that
records: it writes each id to its output after ``record()`` has returned it.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ID_LENGTH = 36


@dataclass(frozen=True)
class Recorder:
    """One process that records until it is killed."""

    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, dsn: str, spool_dir: Path, threads: int = 2) -> Recorder:
        """``dsn`` is a connection string or, with the key in SUPABASE_SECRET_KEY, the URL of a Data API."""
        command = [sys.executable, __file__, dsn, str(spool_dir), str(threads)]
        return cls(subprocess.Popen(command, stdout=subprocess.PIPE))

    def kill(self, after: float) -> list[str]:
        """Kill -9 the given seconds after its first event. Returns the ids that ``record()`` returned."""
        assert self.process.stdout is not None
        with self.process:
            first = self.process.stdout.read(_ID_LENGTH)
            time.sleep(after)
            self.process.send_signal(signal.SIGKILL)
            output = first + self.process.stdout.read()
        text = output.decode()
        # Complete ids only: the last one may be truncated.
        return [text[n : n + _ID_LENGTH] for n in range(0, len(text) - _ID_LENGTH + 1, _ID_LENGTH)]


def kill_recorders(dsn: str, spool_dir: Path, kills: int, at_once: int = 3) -> Iterator[list[str]]:
    """Start and kill this number of processes, a few at a time. Returns the ids of each."""
    while kills > 0:
        batch = [Recorder.start(dsn, spool_dir) for _ in range(min(at_once, kills))]
        for recorder in batch:
            yield recorder.kill(after=random.uniform(0, 0.15))  # noqa: S311 - any moment will do
        kills -= len(batch)


def main(dsn: str, spool_dir: str, threads: str) -> None:
    import threading  # noqa: PLC0415 - used only in the recording process

    from usersync import AuditLog, DataApi  # noqa: PLC0415

    # The database may be unavailable; the ids are the result.
    logging.disable()
    source = DataApi(dsn, os.environ["SUPABASE_SECRET_KEY"]) if dsn.startswith("http") else dsn
    log = AuditLog(source, spool_dir=Path(spool_dir), project="test")

    def record() -> None:
        while True:
            event_id = log.record("a.b", entity=("product", 42), after={"name": "Bolt"})
            if event_id is None:
                os._exit(3)
            # The system writes less than a page to a pipe in one piece.
            os.write(1, event_id.encode())

    for _ in range(int(threads) - 1):
        threading.Thread(target=record, daemon=True).start()
    record()


if __name__ == "__main__":
    main(*sys.argv[1:])
