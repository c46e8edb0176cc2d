"""Lines of a stream that are not events, for example because another program publishes to it."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

from usersync.worker.clock import now

if TYPE_CHECKING:
    from collections.abc import Callable

    from usersync.audit.delivery.stats import Counters

#: How many such lines a worker keeps in an hour, and how many bytes of each, so that they fill no disk.
KEPT_PER_HOUR = 100
KEPT_BYTES = 4096

_HOUR_S = 3600.0
#: Does not convert integers, because Python refuses very long ones.
_DECODER = json.JSONDecoder(parse_int=str)

_REASON = "the line is not an event: a JSON object with a text as its action"


class Garbage:
    """Takes lines that are not events out of messages. Quarantines some of them."""

    def __init__(self, counters: Counters, keep: Callable[[bytes, str], None]) -> None:
        self._counters = counters
        self._keep = keep
        self._began = float("-inf")
        self._kept = 0

    def without(self, lines: list[bytes]) -> list[bytes]:
        """Only the events."""
        return [each for each in lines if is_event(each) or self._quarantine_or_discard(each)]

    def _quarantine_or_discard(self, line: bytes) -> bool:
        if now() - self._began >= _HOUR_S:
            self._began, self._kept = now(), 0
        if self._kept < KEPT_PER_HOUR:
            self._kept += 1
            try:
                self._keep(line[:KEPT_BYTES], _REASON)
            except (OSError, sqlite3.Error):
                # A full disk must not prevent that events are stored.
                pass
            else:
                self._counters.quarantined += 1
                return False
        self._counters.dropped += 1
        self._counters.warn(
            "garbage",
            "lines of the stream that are not events are discarded, %s so far. The first %s of each hour are "
            "quarantined. Find their publisher: usersync audit spool --quarantined",
            self._counters.dropped,
            KEPT_PER_HOUR,
        )
        return False


def is_event(line: bytes) -> bool:
    """Whether a line may be an event. The database checks its values."""
    try:
        found = _DECODER.decode(line.decode())
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and isinstance(found.get("action"), str)
