"""Sends batches, and finds the one event that would hold up all others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from usersync.audit.sender import RefusedError, TooSlowError

if TYPE_CHECKING:
    from usersync.audit.api_sender import ApiSender
    from usersync.audit.options import Options
    from usersync.audit.sender import Sender
    from usersync.audit.source import Entry, Source
    from usersync.audit.stats import Tally


class Delivery:
    """Moves events from a source to the database, in their order."""

    def __init__(self, sender: Sender | ApiSender, options: Options, tally: Tally) -> None:
        self._sender = sender
        self._options = options
        self._tally = tally
        self._events = options.batch_events

    def deliver(self, source: Source) -> bool:
        """Send one batch; whether more waits, besides what came meanwhile.

        Raises what reading and sending raise.
        """
        newest = source.last
        batch = source.read(self._events, self._options.batch_bytes)
        if not batch:
            return False
        try:
            self._send(source, batch)
        except TooSlowError:
            # With a single event it is not the size. It is tried again like anything that will pass.
            self._events = max(1, len(batch) // 2)
            raise
        self._events = min(self._options.batch_events, max(self._events * 2, 1))
        return batch[-1].number < newest

    def _send(self, source: Source, batch: list[Entry]) -> None:
        """Send a batch, or its halves if it is refused for what is in it; set a single such event aside."""
        began = time.monotonic()
        try:
            receipt = self._sender.send([entry.payload for entry in batch])
        except RefusedError as error:
            if len(batch) == 1:
                self._set_aside(source, batch[0], str(error))
                return
            half = len(batch) // 2
            self._send(source, batch[:half])
            self._send(source, batch[half:])
            return
        took = time.monotonic() - began
        self._tally.settled(receipt.stored, receipt.duplicates, receipt.rejected, took)
        # After the commit, never before it: what is sent twice is stored once.
        source.discard(batch[-1].number)

    def _set_aside(self, source: Source, entry: Entry, reason: str) -> None:
        self._tally.refused += 1
        self._tally.complain("refused", "the database refuses an audit event, which is set aside: %s", reason)
        source.set_aside(entry, reason)
