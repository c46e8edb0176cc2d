"""What is sent, when it is sent again, and when it is given up. No input or output of its own.

Everything may be sent again: each of our functions can be called twice without harm. Users are brought in
line with what the auth server's table holds, events are stored once by their ids, a reconciling run keeps its
place and its id is the caller's. So a reply that was lost, or a gateway that was busy, is no reason to fail.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from usersync.errors import NeedsDatabaseError, UsersyncError
from usersync.transports.data_api.answers import NoReply, Refusal, Reply, read_answer
from usersync.transports.steps import Call, Pause, Steps

if TYPE_CHECKING:
    from usersync.transports.data_api.api import DataApi

T = TypeVar("T")

ATTEMPTS = 4
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0

# Of a call's time, what one attempt may take: enough for the eight seconds that Supabase gives a statement,
# and not so much that a connection that has gone silent leaves none for another.
_SHARE = 0.4


@dataclass(frozen=True)
class Request:
    """One request, and how many seconds may pass until its reply has arrived whole."""

    method: str
    path: str
    timeout: float
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


#: Yields what is to be sent or waited for, is sent the reply, and returns what came of it.
Exchange = Generator[Request | Pause, Reply | NoReply | None, T]


def ask(
    api: DataApi,
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    read: Callable[[Reply, str], T],
) -> Exchange[T]:
    """Send a request until there is an answer, and return what ``read`` makes of it.

    Raises ``Refusal``.
    """
    began = time.monotonic()
    deadline = began + api.timeout
    for number in itertools.count(1):
        reply = yield Request(
            method, path, min(api.timeout * _SHARE, max(0.01, deadline - time.monotonic())), body
        )
        try:
            return heard(api, reply, read, time.monotonic() - began)
        except Refusal as refusal:
            # Who says 0, or a time that has passed, is not to be asked without any pause.
            pause = max(_pause(number), refusal.wait or 0.0)
            if not refusal.again or number >= ATTEMPTS or time.monotonic() + pause >= deadline:
                raise
        yield Pause(pause)
    raise AssertionError("unreachable")


def heard(api: DataApi, reply: Reply | NoReply | None, read: Callable[[Reply, str], T], seconds: float) -> T:
    """What ``read`` makes of a reply, for which ``seconds`` were waited; raises ``Refusal``."""
    if isinstance(reply, Reply):
        return read(reply, api.host)
    reason, passing = (reply.reason, reply.passing) if reply else ("nothing was sent", False)
    if reply is not None and reply.slow:
        reason = f"{reason} ({seconds:.3g} s)"
    raise Refusal.unreachable(api.host, reason, passing=passing)


def _pause(number: int) -> float:
    """Longer each time, and never the same, so that many clients do not come back at once."""
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**number) * random.uniform(0.5, 1)  # noqa: S311


def call_function(api: DataApi, function: str, arguments: Mapping[str, Any]) -> Exchange[Any]:
    """Call a function in ``public``; raises ``Refusal``."""
    body = json.dumps(arguments, ensure_ascii=False, separators=(",", ":")).encode()
    return (yield from ask(api, "POST", rpc_path(function), body, read=read_answer))


def rpc_path(function: str) -> str:
    """Where the Data API has a function."""
    return f"/rest/v1/rpc/{function}"


def run_over_api(operation: Steps[T], api: DataApi) -> Exchange[T]:
    """Drive ``operation`` to its end and return its result; raises ``UsersyncError``."""
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
            # Outside of the block above, so that the one error does not drag the other along.
            step = operation.throw(refused) if refused is not None else operation.send([{"answer": answer}])
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        operation.close()


def _needs_database() -> NeedsDatabaseError:
    return NeedsDatabaseError(
        "this needs a connection to the database, and there is only the Data API",
        hint="Set SUPABASE_DB_URL, or pass --dsn.",
    )
