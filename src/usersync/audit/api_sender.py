"""Carries a batch to the database through the Data API."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

from usersync.audit.sender import IDLE_S, Receipt, Sender
from usersync.audit.wire import DATA, RefusedError, TooSlowError, UnavailableError
from usersync.rest import DataApi
from usersync.rest.answers import NoReply, Refusal, read_answer
from usersync.rest.exchange import Request, heard, rpc_path
from usersync.transports.steps import fits

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

    from usersync.rest.answers import Reply
    from usersync.rest.http import Wire

_PATH = rpc_path("record_audit_events")

#: Time-out of the gateway, of the server behind it, and too large a request: fewer events at once may do.
_SMALLER = {408, 413, 504}


class ApiSender:
    """For the writer's thread, which is where it makes its connections and its event loop.

    A batch is tried once: the writer waits, and tries again, as it does for a database.
    """

    def __init__(self, api: DataApi, timeout: float) -> None:
        self._api = api
        self._timeout = timeout
        self._runner: asyncio.Runner | None = None
        self._wire: Wire | None = None
        self._used_at = 0.0

    def send(self, payloads: list[bytes], *, give_up_links: bool = False) -> Receipt:  # noqa: ARG002
        """Store a batch. Raises :class:`UnavailableError` or :class:`RefusedError`.

        A link to a user whose row is locked is given up at once, whatever ``give_up_links`` says: a call of
        the Data API's has no settings of its own. Blocks for the time-out at the most.
        """
        body = b'{"events":[' + b",".join(payloads) + b"]}"
        reply = self._exchange(Request("POST", _PATH, self._timeout, body))
        problem: Exception
        try:
            return _receipt(heard(self._api, reply, read_answer), len(payloads))
        except Refusal as refusal:
            problem = _explain(refusal, reply, alone=len(payloads) == 1)
        raise problem

    def takes_events(self) -> bool:
        """Never known: a call of the Data API's cannot be rolled back."""
        return False

    def _exchange(self, request: Request) -> Reply | NoReply:
        if self._runner is None or self._wire is None:
            from usersync.rest.http import Wire  # noqa: PLC0415 - httpx, which a database can do without

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


def _receipt(answer: Any, count: int) -> Receipt:
    """What became of so many events. One that does not account for each of them is nobody's we know: on its
    word the events would be forgotten here, and be nowhere."""
    if (
        not fits(answer, {"stored": _number, "duplicates": _number, "rejected": _number})
        or answer["stored"] + answer["duplicates"] + answer["rejected"] != count
        or not fits(answer.get("rejects", []), [dict])
    ):
        raise UnavailableError("somebody else answered: what came back is no receipt for these events")
    return Receipt(
        answer["stored"], answer["duplicates"], answer["rejected"], tuple(answer.get("rejects", ()))
    )


def _number(answer: Any) -> bool:
    return type(answer) is int and answer >= 0


def _explain(refusal: Refusal, reply: Reply | NoReply, *, alone: bool) -> Exception:
    message = str(refusal)
    state = getattr(refusal.error, "sqlstate", None)
    if isinstance(reply, NoReply):
        return (TooSlowError if reply.slow else UnavailableError)(message)
    if refusal.status == 413 and alone:  # noqa: PLR2004 - content too large
        return RefusedError(message)
    if state == "57014" or refusal.status in _SMALLER:
        return TooSlowError(message)
    if state is not None and state.startswith(DATA):
        return RefusedError(message)
    return RefusedError(message) if re.search(r"\(PGRST102\)", message) else UnavailableError(message)


def sender_to(source: str | ConnectionPool[Any] | DataApi, timeout: float) -> Sender | ApiSender:
    """What sends there; a batch may take so many seconds."""
    return ApiSender(source, timeout) if isinstance(source, DataApi) else Sender(source, timeout)
