"""Sends batches, and isolates an event that would block all others."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from usersync.audit.delivery.protocol import LockedError, RefusedError, StuckError, TooSlowError
from usersync.audit.delivery.stream_sender import StreamSender
from usersync.audit.spool.binding import WrongDatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.audit.delivery.senders import AnySender
    from usersync.audit.delivery.stats import Counters
    from usersync.audit.options import Options
    from usersync.audit.spool.source import Entry, EventSource, KeepingSource


#: How many times a batch is retried unchanged. The waits between retries add up to a few seconds. Most
#: causes, such as a lock on a user's row, end in that time.
RETRIES = 5


class SpoolDelivery:
    """Moves events in order from a source to the database."""

    def __init__(
        self,
        sender: AnySender,
        options: Options,
        counters: Counters,
        retries: int = RETRIES,
    ) -> None:
        self._sender = sender
        self._options = options
        self._counters = counters
        self._events = options.batch_events
        self._retries = retries
        #: The number of consecutive batches that the database answered with StuckError.
        self._stuck = 0

    def deliver(self, source: EventSource) -> bool:
        """Send one batch. Returns whether more events waited when it started.

        Raises what reading and sending raise.
        """
        newest = source.last
        batch = source.read(self._events, self._options.batch_bytes)
        if not batch:
            return False
        if (problem := batch[0].problem) is not None:
            self._quarantine(source, batch[0], problem)
            return batch[0].number < newest
        # The database accepts a plain event, but has failed with these for long: one of them is the cause.
        isolates = self._stuck >= self._retries and self._sender.takes_events()
        with self._noting_size(batch):
            is_clean = self._send(source, batch, isolates=isolates)
        # There may be more events like it, which need no such wait.
        self._stuck = 0 if is_clean else self._retries
        self._events = min(self._options.batch_events, max(self._events * 2, 1))
        return batch[-1].number < newest

    @contextmanager
    def _noting_size(self, batch: list[Entry]) -> Iterator[None]:
        try:
            yield
        except StuckError as error:
            self._stuck += 1
            if isinstance(error, TooSlowError):
                # A single event cannot be split. It is retried like any temporary failure.
                self._events = max(1, len(batch) // 2)
            raise

    def catch_up(self, source: KeepingSource) -> bool:
        """If the database has moved, send a batch of kept events again. Returns whether there were any."""
        position = self._sender.position or self._sender.locate()
        if position is None or not source.binding.moved(position):
            source.prune(self._sender.answered_ms)
            return False
        batch = source.delivered(source.sent_again, *self._size_again(source))
        belongs_to = self._meet(source)
        if not batch:
            source.binding.accept_position(position)
            if source.sent_again or source.expired:
                self._counters.caught_up()
            source.sent_again = 0
            return False
        with self._noting_size(batch):
            stored = self._send_again(batch, belongs_to)
        if not source.sent_again and stored:
            # The oldest kept event was lost, so older events, which are no longer kept, may be lost as well.
            self._counters.beyond_window += source.expired
        self._counters.sent_again += stored
        source.sent_again = batch[-1].number if self._sender.position == position else 0
        return True

    def _meet(self, source: EventSource) -> str:
        position = self._sender.position or self._sender.locate()
        try:
            return source.binding.check_database(position)
        except WrongDatabaseError:
            # The next attempt asks for the position again.
            self._sender.position = None
            raise

    def _size_again(self, source: KeepingSource) -> tuple[int, int]:
        # The first event alone, to see whether the database still has it.
        return (self._events if source.sent_again else 1), self._options.batch_bytes

    def _send_again(self, batch: list[Entry], belongs_to: str) -> int:
        """How many of the events the database had lost."""
        try:
            return self._sender.send([entry.payload for entry in batch], belongs_to=belongs_to).stored
        except RefusedError as error:
            half = len(batch) // 2
            if half:
                return self._send_again(batch[:half], belongs_to) + self._send_again(batch[half:], belongs_to)
            self._counters.warn(
                "again", "the database does not accept an event that was delivered before: %s", str(error)
            )
            return 0

    def _send(self, source: EventSource, batch: list[Entry], *, isolates: bool) -> bool:
        """Send a batch, or its halves if its content is the cause of a failure. Returns whether it caused no
        delay.

        A single failing event is sent without its link to a user. If that fails too, it is quarantined.
        """
        try:
            self._send_unchanged(source, batch)
        except (RefusedError, StuckError) as error:
            if isinstance(error, StuckError) and not isolates:
                raise
            half = len(batch) // 2
            if half:
                self._send(source, batch[:half], isolates=isolates)
                self._send(source, batch[half:], isolates=isolates)
            else:
                self._send_alone(source, batch[0], error)
            return isinstance(error, RefusedError)
        return True

    def _send_alone(self, source: EventSource, entry: Entry, error: Exception) -> None:
        for _ in range(self._sender.required_probes if isinstance(error, StuckError) else 0):
            try:
                self._send_unchanged(source, [entry], give_up_links=True)
            except (RefusedError, StuckError) as last:
                # The event is the cause only if a plain event is accepted meanwhile.
                if isinstance(last, LockedError) or not self._sender.takes_events():
                    raise
                error = last
            else:
                return
        self._quarantine(source, entry, str(error))

    def _send_unchanged(
        self, source: EventSource, batch: list[Entry], *, give_up_links: bool = False
    ) -> None:
        began = time.monotonic()
        belongs_to = self._meet(source)
        payloads = [entry.payload for entry in batch]
        try:
            if isinstance(self._sender, StreamSender):
                batch_id = source.name_batch(batch[-1].number)
                receipt = self._sender.send(payloads, belongs_to=belongs_to, batch_id=batch_id)
            else:
                receipt = self._sender.send(payloads, give_up_links=give_up_links, belongs_to=belongs_to)
        except WrongDatabaseError:
            # Raises an error that names the database and what to do.
            self._meet(source)
            raise
        self._counters.settled(receipt, time.monotonic() - began)
        # After the commit, never before: an event that is sent twice is stored once.
        source.discard(batch[-1].number, sum(map(len, payloads)))

    def _quarantine(self, source: EventSource, entry: Entry, reason: str) -> None:
        self._counters.quarantined += 1
        self._counters.warn(
            "quarantined",
            "an audit event is quarantined, because the database does not accept it: %s",
            reason,
        )
        source.quarantine(entry, reason)
