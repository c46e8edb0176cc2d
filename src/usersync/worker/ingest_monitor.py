"""What probes and metrics say about the ingestion of a stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from usersync import metrics
from usersync.audit.delivery.stats import Counters
from usersync.worker.attempts import describe
from usersync.worker.clock import now

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from usersync.metrics import Sample
    from usersync.transports.jetstream.address import StreamAddress
    from usersync.transports.jetstream.backlog import Backlog

#: How often the backlog is read.
READ_S = 10.0
#: An older reading says nothing about now.
_FRESH_S = 40.0


class IngestMonitor:
    """Reads the backlog of a stream in an event loop. Other threads read the result.

    It has a connection of its own, so the backlog is known while the database is down.
    """

    def __init__(self, address: StreamAddress) -> None:
        self._address = address
        self._name = address.ingest_stream
        #: Of this process.
        self.counters = Counters()
        self._backlog: Backlog | None = None
        self._read_at = float("-inf")
        self._problem = ""
        #: Why no events are stored. None while a worker's thread fetches messages.
        self._stopped_by: str | None = ""

    def storing(self) -> None:
        """Messages are fetched from now on."""
        self._stopped_by = None

    def failed(self, error: BaseException, *, ends: bool = False) -> None:
        """An attempt to store events failed. With ``ends``, no messages are fetched until ``storing()``."""
        self.counters.failures += 1
        if ends:
            self._stopped_by = describe(error)

    def problem(self) -> str | None:
        """Why no events of the stream can be stored now; None if they can."""
        if self._stopped_by is None and self._fresh() is not None:
            return None
        what = "the events of the stream are not stored"
        reason = self._stopped_by or self._problem
        return f"{what}: {reason}" if reason else f"{what} yet"

    def samples(self) -> Iterator[Sample]:
        """The metrics of the ingestion. Does not block."""
        yield from metrics.of_backlog(self._fresh())
        yield from metrics.of_ingested(self.counters)

    def _fresh(self) -> Backlog | None:
        return self._backlog if now() - self._read_at < _FRESH_S else None

    async def run(self, stopping: threading.Event) -> None:
        """Read the backlog regularly until ``stopping`` is set. Errors are noted, and never raised."""
        from usersync.transports.jetstream.backlog import read_backlog  # noqa: PLC0415 - needs an extra
        from usersync.transports.jetstream.connection import connect  # noqa: PLC0415 - needs an extra

        while not stopping.is_set():
            try:
                connection = await connect(self._address, "metrics")
                try:
                    while not stopping.is_set():
                        self._note(await read_backlog(connection, self._name))
                        await asyncio.to_thread(stopping.wait, READ_S)
                finally:
                    await connection.close()
            except Exception as error:  # noqa: BLE001 - metrics must not end the ingestion
                self._problem, self._backlog = describe(error), None
                await asyncio.to_thread(stopping.wait, READ_S)

    def _note(self, found: Backlog) -> None:
        self._backlog, self._read_at, self._problem = found, now(), ""
        if not found.pending and not found.unacknowledged:
            self.counters.failures = 0
