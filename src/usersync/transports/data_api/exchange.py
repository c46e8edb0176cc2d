"""Requests, retries and time limits of the Data API. No input or output.

Every request may be repeated, because usersync's functions are idempotent: users are synced with the auth
server's table, events are stored once by their ids, and a run has the caller's id and stores its position. So
a request is retried after a lost reply or a busy gateway.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from usersync.errors import NeedsDatabaseError, UsersyncError
from usersync.transports.backoff import wait_before
from usersync.transports.data_api.answers import NoReply, Refusal, Reply, read_answer
from usersync.transports.steps import Call, Pause, Steps

if TYPE_CHECKING:
    from usersync.transports.data_api.api import DataApi

T = TypeVar("T")

ATTEMPTS = 4
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0

# One attempt may take this share of a call's time: more than the eight seconds that Supabase allows a
# statement, and little enough for a second attempt if a connection does not respond.
_SHARE = 0.4


@dataclass(frozen=True)
class Request:
    """One request. ``timeout`` is the number of seconds until its complete reply."""

    method: str
    path: str
    timeout: float
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


#: A generator that yields requests and pauses, is sent the replies, and returns the result.
Exchange = Generator[Request | Pause, Reply | NoReply | None, T]


def ask(
    api: DataApi,
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    read: Callable[[Reply, str], T],
) -> Exchange[T]:
    """Send a request until there is an answer, and return the result of ``read`` for it. Raises
    ``Refusal``.
    """
    began = time.monotonic()
    deadline = began + api.timeout
    for number in itertools.count(1):
        reply = yield Request(
            method, path, min(api.timeout * _SHARE, max(0.01, deadline - time.monotonic())), body
        )
        try:
            return read_reply(api, reply, read, time.monotonic() - began)
        except Refusal as refusal:
            # Retry-After may be 0 or in the past. There is a pause all the same.
            pause = max(wait_before(number + 1, _FIRST_PAUSE_S, _LONGEST_PAUSE_S), refusal.wait or 0.0)
            if not refusal.again or number >= ATTEMPTS or time.monotonic() + pause >= deadline:
                raise
        yield Pause(pause)
    raise AssertionError("unreachable")


def read_reply(
    api: DataApi, reply: Reply | NoReply | None, read: Callable[[Reply, str], T], seconds: float
) -> T:
    """The result of ``read`` for a reply that arrived after ``seconds``. Raises ``Refusal``."""
    if isinstance(reply, Reply):
        return read(reply, api.host)
    reason, passing = (reply.reason, reply.passing) if reply else ("nothing was sent", False)
    if reply is not None and reply.slow:
        reason = f"{reason} ({seconds:.3g} s)"
    raise Refusal.unreachable(api.host, reason, passing=passing)


def call_function(api: DataApi, function: str, arguments: Mapping[str, Any]) -> Exchange[Any]:
    """Call a function in ``public``; raises ``Refusal``."""
    body = json.dumps(arguments, ensure_ascii=False, separators=(",", ":")).encode()
    return (yield from ask(api, "POST", rpc_path(function), body, read=read_answer))


def rpc_path(function: str) -> str:
    """The path of a function in the Data API."""
    return f"/rest/v1/rpc/{function}"


def run_over_api(operation: Steps[T], api: DataApi) -> Exchange[T]:
    """Run ``operation`` and return its result. Raises ``UsersyncError``."""
    try:
        step = next(operation)
        while True:
            if isinstance(step, Pause):
                yield step
                step = operation.send([])
                continue
            if not isinstance(step, Call):
                step = operation.throw(_needs_database())
                continue
            refused: UsersyncError | None = None
            answer: Any = None
            try:
                answer = yield from call_function(api, step.function, step.arguments)
            except Refusal as refusal:
                refused = refusal.error
            # Outside of the block above, so that Refusal does not become the context of the error.
            step = operation.throw(refused) if refused is not None else operation.send([{"answer": answer}])
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        operation.close()


def _needs_database() -> NeedsDatabaseError:
    return NeedsDatabaseError(
        "this requires a database connection, and the client uses the Data API",
        hint="Put the connection string into .env.local as SUPABASE_DB_URL, or pass --dsn.",
    )
