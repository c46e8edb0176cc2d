"""What the answer of a receiver means for the event."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from usersync.control_characters import CONTROL
from usersync.errors import mask_addresses
from usersync.events.delivery import AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usersync.audit.models import EventRecord

#: A receiver can postpone an event for a day at most.
LONGEST_WAIT_S = 86_400.0

SUCCESS, _REDIRECT = range(200, 300), range(300, 400)

_MOST_SHOWN = 300
_SHORTEST_VALUE = 4
#: A secret or a signature of Standard Webhooks, which an answer may repeat.
_SECRET = re.compile(r"whsec_[\w+/=-]+|\bv1a?,[\w+/=-]{20,}")


def outcome_of(status: int, headers: Mapping[str, str], body: bytes, event: EventRecord) -> AttemptOutcome:
    """The outcome of an attempt that got an answer. ``body`` is the beginning of the body."""
    if status in SUCCESS:
        return _succeeded(status)
    said = _without_values(body.decode("utf-8", "replace"), event)
    if status == HTTPStatus.GONE:
        return AttemptOutcome.disable(_described(status, said, "the receiver wants no more events"))
    if status in _REDIRECT:
        return AttemptOutcome.failed(
            _described(
                status, "", "redirects are not followed. To change the URL: usersync subscriptions set-url"
            )
        )
    waits = status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
    wait = _seconds(headers.get("retry-after", "")) if waits else None
    return AttemptOutcome.failed(_described(status, said), retry_after=wait)


@cache
def _succeeded(status: int) -> AttemptOutcome:
    return AttemptOutcome.succeeded(_described(status, ""))


def _described(status: int, said: str, meaning: str = "") -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return ": ".join(part for part in (f"{status} {phrase}".strip(), meaning, cleaned(said)) if part)


def cleaned(text: str) -> str:
    """A foreign text in one line without control characters, shortened."""
    one_line = " ".join(CONTROL.sub(" ", text).split())
    return one_line if len(one_line) <= _MOST_SHOWN else f"{one_line[:_MOST_SHOWN]}…"


def _without_values(said: str, event: EventRecord) -> str:
    """The text without values of the event, which an answer may repeat, secrets and e-mail addresses.

    Errors are stored, logged and shown.
    """
    fields = (event.changes, event.metadata, event.entity_id, event.actor_id, event.user_agent, event.ip)
    # The longest first, because it may contain another.
    for value in sorted(set(_texts(fields, len(said))), key=len, reverse=True):
        said = said.replace(value, "…")
    return _SECRET.sub("<secret>", mask_addresses(said))


def _texts(value: object, longest: int) -> Iterator[str]:
    if isinstance(value, str) and _SHORTEST_VALUE <= len(value) <= longest:
        yield value
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each, longest)


def _seconds(value: str) -> float | None:
    """The seconds of a ``Retry-After``, a number or a date; None if it is neither."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        # Python does not convert numbers with thousands of digits.
        return min(float(value[:20]), LONGEST_WAIT_S)
    try:
        at = parsedate_to_datetime(value)
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT_S)
