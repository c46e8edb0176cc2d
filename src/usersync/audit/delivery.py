"""Sends batches, and finds the one event that would hold up all others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from usersync.audit.wire import LockedError, RefusedError, StuckError, TooSlowError

if TYPE_CHECKING:
    from usersync.audit.api_sender import ApiSender
    from usersync.audit.options import Options
    from usersync.audit.sender import Sender
    from usersync.audit.source import Entry, Source
    from usersync.audit.stats import Tally


#: So often a batch is tried again as it is. The waits between add up to a few seconds, and most of what keeps
#: a database from taking events, such as a user's row that is locked, is over by then.
PATIENCE = 5


class Delivery:
    """Moves events from a source to the database, in their order."""

    def __init__(
        self, sender: Sender | ApiSender, options: Options, tally: Tally, patience: int = PATIENCE
    ) -> None:
        self._sender = sender
        self._options = options
        self._tally = tally
        self._events = options.batch_events
        self._patience = patience
        #: How often in a row the database was stuck.
        self._stuck = 0

    def deliver(self, source: Source) -> bool:
        """Send one batch; whether more waits, besides what came meanwhile.

        Raises what reading and sending raise.
        """
        newest = source.last
        batch = source.read(self._events, self._options.batch_bytes)
        if not batch:
            return False
        # It takes events, and for this long not these: then it is for what is in one of them.
        sorts = self._stuck >= self._patience and self._sender.takes_events()
        try:
            is_clean = self._send(source, batch, sorts=sorts)
        except StuckError as error:
            self._stuck += 1
            if isinstance(error, TooSlowError):
                # With a single event it is not the size. It is tried again like anything that may pass.
                self._events = max(1, len(batch) // 2)
            raise
        # Where one has been found there may be more, which need not be waited for as long.
        self._stuck = 0 if is_clean else self._patience
        self._events = min(self._options.batch_events, max(self._events * 2, 1))
        return batch[-1].number < newest

    def _send(self, source: Source, batch: list[Entry], *, sorts: bool) -> bool:
        """Send a batch, or its halves if it fails for what is in it; whether it went through as it is.

        A single such event goes without its link to a user, and if that fails too, it is set aside.
        """
        try:
            self._send_as_it_is(source, batch)
        except (RefusedError, StuckError) as error:
            if isinstance(error, StuckError) and not sorts:
                raise
            half = len(batch) // 2
            if half:
                self._send(source, batch[:half], sorts=sorts)
                self._send(source, batch[half:], sorts=sorts)
            else:
                self._send_alone(source, batch[0], error)
            return isinstance(error, RefusedError)
        return True

    def _send_alone(self, source: Source, entry: Entry, error: Exception) -> None:
        if isinstance(error, StuckError):
            try:
                self._send_as_it_is(source, [entry], give_up_links=True)
            except (RefusedError, StuckError) as last:
                if isinstance(last, LockedError) or not self._sender.takes_events():
                    raise
                error = last
            else:
                return
        self._set_aside(source, entry, str(error))

    def _send_as_it_is(self, source: Source, batch: list[Entry], *, give_up_links: bool = False) -> None:
        began = time.monotonic()
        receipt = self._sender.send([entry.payload for entry in batch], give_up_links=give_up_links)
        self._tally.settled(receipt, time.monotonic() - began)
        # After the commit, never before it: what is sent twice is stored once.
        source.discard(batch[-1].number)

    def _set_aside(self, source: Source, entry: Entry, reason: str) -> None:
        self._tally.refused += 1
        self._tally.complain("refused", "the database refuses an audit event, which is set aside: %s", reason)
        source.set_aside(entry, reason)
