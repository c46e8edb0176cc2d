"""Sample events, and HTTP servers on free ports that receive webhooks."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from usersync.audit.models import NumberedEvent

if TYPE_CHECKING:
    from collections.abc import Coroutine

EVENT = NumberedEvent(
    id=UUID("01930000-0000-7000-8000-000000000001"),
    occurred_at=datetime(2026, 5, 1, 12, 30, 0, 250_000, UTC),
    recorded_at=datetime(2026, 5, 1, 12, 30, 1, tzinfo=UTC),
    action="user.updated",
    outcome="succeeded",
    actor_id="a-7",
    actor_type="user",
    user_id=UUID("01930000-0000-7000-8000-0000000000aa"),
    entity_type="user",
    entity_id="01930000-0000-7000-8000-0000000000aa",
    changes={"email": ["ada@example.com", "ada@example.org"], "password": "[redacted]"},
    metadata={"origin": "trigger"},
    request_id="r-1",
    ip="2001:db8::1",
    user_agent="curl/8",
    source="sync",
    tenant_id="acme",
    on_behalf_of=None,
    db_role="postgres",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    severity="low",
    tie="x",
    number=12,
)

#: An event of an application's own log table, which may have few columns.
BARE = NumberedEvent(
    **dict.fromkeys(vars(EVENT)) | {"id": EVENT.id, "occurred_at": EVENT.occurred_at, "tie": "x", "number": 1}
)

HOSTILE = replace(
    EVENT,
    action="order.paid\r\nx-injected: 1",
    entity_id="\x1b[2J\u202e",
    source="a b/ü?#",
    metadata={
        "half": "\ud800",
        "nul": "\x00",
        "line": "\u2028</script>",
        "huge": float("inf"),
        "big": "x" * 3_000_000,
    },
    changes=[["not", {"a": "mapping"}]],
    ip="10.0.0.0/8",
)


@dataclass
class Received:
    """One request."""

    head: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Answers each request with the next of ``answers``, and further requests with the last one.

    An empty answer closes the connection.
    """

    answers: list[bytes]
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    #: Sent repeatedly after the answer, without an end.
    endless: bytes = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks?token=hidden"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # The client has disconnected, or the test has ended.
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        self.requests.append(Received(head, headers, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        writer.write(answer)
        await writer.drain()
        while self.endless:
            writer.write(self.endless)
            await writer.drain()
        return bool(answer)


@asynccontextmanager
async def receiving(*answers: bytes, endless: bytes = b"", ssl=None):
    """Run a receiver on a free port of this machine."""
    receiver = Receiver(list(answers), endless=endless)
    async with await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=ssl, limit=1 << 23) as server:
        receiver.port = server.sockets[0].getsockname()[1]
        yield receiver


def answer(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """An HTTP response with a Content-Length header."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class BackgroundReceiver(Receiver):
    """A receiver in a separate thread, for tests that block."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self.serve, "127.0.0.1", 0, limit=1 << 23))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(90)
