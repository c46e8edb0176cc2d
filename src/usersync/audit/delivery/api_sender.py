"""Carries a batch to the database through the Data API."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from usersync.audit.delivery.protocol import RefusedError, StuckError, TooSlowError, UnavailableError, kind_of
from usersync.audit.delivery.sender import (
    COUNTS,
    IDLE_S,
    NOT_ONE,
    PLAIN_EVENT,
    Receipt,
    Sender,
    check_place,
    now_ms,
)
from usersync.core.position import Position
from usersync.errors import redact_message
from usersync.transports.data_api import DataApi
from usersync.transports.data_api.answers import NoReply, Refusal, read_answer
from usersync.transports.data_api.exchange import Request, heard, rpc_path
from usersync.transports.steps import fits

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

    from usersync.transports.data_api.answers import Reply
    from usersync.transports.data_api.http import Wire

_PATH = rpc_path("record_audit_events")

_BELONGS_TO, _TRY = "usersync-belongs-to", "usersync-try"

#: Time-out of the gateway, of the server behind it, and too large a request: fewer events at once may do.
_SMALLER = {408, 413, 504}


class ApiSender:
    """For the writer's thread, which is where it makes its connections and its event loop.

    A batch is tried once: the writer waits, and tries again, as it does for a database.
    """

    # What one reply says may be an intermediary's word.
    proofs = 3

    def __init__(self, api: DataApi, timeout: float) -> None:
        self._api = api
        self._timeout = timeout
        self._runner: asyncio.Runner | None = None
        self._wire: Wire | None = None
        self._used_at = 0.0
        #: See ``Sender``.
        self.position: Position | None = None
        self.answered_ms = 0
        self._passes_headers = False

    def send(
        self,
        payloads: list[bytes],
        *,
        give_up_links: bool = False,  # noqa: ARG002 - see below
        belongs_to: str = "*",
    ) -> Receipt:
        """Store a batch. Raises what ``Sender.send()`` raises.

        A link to a user whose row is locked is given up at once, whatever ``give_up_links`` says: a call of
        the Data API's has no settings of its own. Blocks for the time-out at the most.
        """
        answer = self._call(payloads, {_BELONGS_TO: belongs_to})
        check_place(answer)
        return _receipt(answer, payloads)

    def locate(self) -> Position | None:
        """Ask where the database is. Raises what ``send()`` raises."""
        answer = self._call([], {_BELONGS_TO: "?"})
        # An answer with counts: a gateway has dropped the header.
        self._passes_headers = isinstance(answer, dict) and "stored" not in answer
        return self.position

    def takes_events(self) -> bool:
        """Whether the database takes an event that has nothing special about it. It is not kept.

        False where it would be kept: by functions of an earlier release, or where a gateway drops the header.
        """
        try:
            if self.locate() is None or not self._passes_headers:
                return False
            answer = self._call([PLAIN_EVENT], {_TRY: "1"})
        except (UnavailableError, RefusedError):
            return False
        return isinstance(answer, dict) and answer.get("stored") == 1

    def _call(self, payloads: list[bytes], headers: dict[str, str]) -> Any:
        body = b'{"events":[' + b",".join(payloads) + b"]}"
        reply = self._exchange(Request("POST", _PATH, self._timeout, body, headers))
        problem: Exception
        try:
            answer = heard(self._api, reply, read_answer, self._timeout)
        except Refusal as refusal:
            problem = _explain(refusal, reply)
        else:
            said = answer.get("position") if isinstance(answer, dict) else None
            self.position, self.answered_ms = Position.read(said), now_ms()
            return answer
        raise problem

    def _exchange(self, request: Request) -> Reply | NoReply:
        if self._runner is None or self._wire is None:
            from usersync.transports.data_api.http import Wire  # noqa: PLC0415 - httpx, which a database can do without

            self._runner = asyncio.Runner()
            self._wire = Wire(self._api)
        self._used_at = time.monotonic()
        return self._runner.run(self._wire.send(request))

    def rest(self) -> None:
        """Called while there is nothing to send: closes connections that have been idle for long."""
        if self._runner is not None and time.monotonic() - self._used_at > IDLE_S:
            self.close()

    def close(self) -> None:
        """Close the connections; the next batch opens others."""
        runner, self._runner = self._runner, None
        wire, self._wire = self._wire, None
        if runner is not None and wire is not None:
            with runner:
                runner.run(wire.close())

    def descriptors(self) -> list[int]:
        """None that a forked child must close: what it inherits cannot hold a lock or end a conversation."""
        return []


def _receipt(answer: Any, payloads: list[bytes]) -> Receipt:
    """What became of these events. One that does not account for each of them is nobody's we know: on its
    word the events would be forgotten here, and be nowhere."""
    if not fits(answer, dict.fromkeys(COUNTS, _number)) or not fits(answer.get("rejects", []), [dict]):
        raise UnavailableError(_NOBODYS)
    if sum(answer[each] for each in COUNTS) != len(payloads):
        raise UnavailableError(_NOBODYS) if all(map(_is_event, payloads)) else RefusedError(NOT_ONE)
    return Receipt(
        answer["stored"], answer["duplicates"], answer["rejected"], tuple(answer.get("rejects", ()))
    )


_NOBODYS = "somebody else answered: what came back is no receipt for these events"


def _is_event(payload: bytes) -> bool:
    try:
        return isinstance(json.loads(payload), dict)
    except (ValueError, RecursionError):
        return False


def _number(answer: Any) -> bool:
    return type(answer) is int and answer >= 0


def _explain(refusal: Refusal, reply: Reply | NoReply) -> Exception:
    """Only an SQLSTATE is the database's word. What else is said may be an intermediary's, and pass."""
    message = str(refusal)
    state = getattr(refusal.error, "sqlstate", None)
    if isinstance(reply, NoReply):
        return (TooSlowError if reply.slow else UnavailableError)(message)
    kind: type[Exception] = UnavailableError
    if state is not None:
        kind, message = kind_of(state), redact_message(state, message)
    elif refusal.status in _SMALLER:
        kind = TooSlowError
    elif refusal.code == "PGRST102":
        # A body that was cut on its way is no JSON.
        kind = StuckError
    if kind is RefusedError:
        return RefusedError(message)
    problem = kind(message) if issubclass(kind, UnavailableError) else UnavailableError(message)
    problem.wait = refusal.wait or 0.0
    return problem


def sender_to(source: str | ConnectionPool[Any] | DataApi, timeout: float) -> Sender | ApiSender:
    """What sends there; a batch may take so many seconds."""
    return ApiSender(source, timeout) if isinstance(source, DataApi) else Sender(source, timeout)
