"""Sends a batch to the database through the Data API."""

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
    check_place,
    now_ms,
)
from usersync.core.position import DatabasePosition
from usersync.errors import redact_message
from usersync.transports.data_api.answers import NoReply, Refusal, read_answer
from usersync.transports.data_api.exchange import Request, read_reply, rpc_path
from usersync.transports.steps import fits

if TYPE_CHECKING:
    from usersync.transports.data_api import DataApi
    from usersync.transports.data_api.answers import Reply
    from usersync.transports.data_api.http import HttpClient

_PATH = rpc_path("record_audit_events")

_BELONGS_TO, _TRY = "usersync-belongs-to", "usersync-try"

#: Time-outs of the gateway and of the server behind it, and "request too large": a smaller batch may succeed.
_SMALLER = {408, 413, 504}


class ApiSender:
    """A sender for the writer's thread, in which it creates its connections and its event loop.

    It tries a batch once. The writer waits and retries, as it does for a PostgreSQL connection.
    """

    # A single reply may come from an intermediary, so more failures are required than for PostgreSQL.
    required_probes = 3

    def __init__(self, api: DataApi, timeout: float) -> None:
        self._api = api
        self._timeout = timeout
        self._runner: asyncio.Runner | None = None
        self._http: HttpClient | None = None
        self._used_at = 0.0
        #: See ``Sender``.
        self.position: DatabasePosition | None = None
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

        An event whose user's row is locked is always stored without its link, whatever ``give_up_links``
        says, because a call of the Data API has no settings of its own. Blocks at most for the time-out.
        """
        answer = self._call(payloads, {_BELONGS_TO: belongs_to})
        check_place(answer)
        return _receipt(answer, payloads)

    def locate(self) -> DatabasePosition | None:
        """Ask the database for its position. Raises what ``send()`` raises."""
        answer = self._call([], {_BELONGS_TO: "?"})
        # An answer with counts means that a gateway dropped the header.
        self._passes_headers = isinstance(answer, dict) and "stored" not in answer
        return self.position

    def takes_events(self) -> bool:
        """Whether the database accepts a plain event. The event is not stored.

        Also False if it would be stored: by functions of an earlier release, or if a gateway drops the
        header.
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
            answer = read_reply(self._api, reply, read_answer, self._timeout)
        except Refusal as refusal:
            problem = _explain(refusal, reply)
        else:
            said = answer.get("position") if isinstance(answer, dict) else None
            self.position, self.answered_ms = DatabasePosition.read(said), now_ms()
            return answer
        raise problem

    def _exchange(self, request: Request) -> Reply | NoReply:
        if self._runner is None or self._http is None:
            from usersync.transports.data_api.http import HttpClient  # noqa: PLC0415 - httpx is not needed for a PostgreSQL connection

            self._runner = asyncio.Runner()
            self._http = HttpClient(self._api)
        self._used_at = time.monotonic()
        return self._runner.run(self._http.send(request))

    def close_if_idle(self) -> None:
        """Called while no events wait: closes connections that have been idle for long."""
        if self._runner is not None and time.monotonic() - self._used_at > IDLE_S:
            self.close()

    def close(self) -> None:
        """Close the connections. The next batch opens new ones."""
        runner, self._runner = self._runner, None
        http, self._http = self._http, None
        if runner is not None and http is not None:
            with runner:
                runner.run(http.close())

    def descriptors(self) -> list[int]:
        """Empty: the inherited descriptors hold no locks, and closing them in a child ends no connection."""
        return []


def _receipt(answer: Any, payloads: list[bytes]) -> Receipt:
    """The counts of these events. An answer whose counts do not add up is not from usersync. If it
    were accepted, the events would be deleted here without being stored.
    """
    if not fits(answer, dict.fromkeys(COUNTS, _number)) or not fits(answer.get("rejects", []), [dict]):
        raise UnavailableError(_NOT_OURS)
    if sum(answer[each] for each in COUNTS) != len(payloads):
        raise UnavailableError(_NOT_OURS) if all(map(_is_event, payloads)) else RefusedError(NOT_ONE)
    return Receipt(
        answer["stored"], answer["duplicates"], answer["rejected"], tuple(answer.get("rejects", ()))
    )


_NOT_OURS = "the answer is not from usersync: its counts do not match these events"


def _is_event(payload: bytes) -> bool:
    try:
        return isinstance(json.loads(payload), dict)
    except (ValueError, RecursionError):
        return False


def _number(answer: Any) -> bool:
    return type(answer) is int and answer >= 0


def _explain(refusal: Refusal, reply: Reply | NoReply) -> Exception:
    """Only an SQLSTATE comes from the database. Any other error may come from an intermediary, and is
    temporary.
    """
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
        # A truncated body is not valid JSON.
        kind = StuckError
    if kind is RefusedError:
        return RefusedError(message)
    problem = kind(message) if issubclass(kind, UnavailableError) else UnavailableError(message)
    problem.wait = refusal.wait or 0.0
    return problem
