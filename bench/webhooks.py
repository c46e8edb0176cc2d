"""Webhooks: signed requests, compared with the HTTP client alone, which sends the same body unsigned."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import aiohttp

from measuring import Row, faster, plain, take_turns
from usersync.audit.models import EventRecord, NumberedEvent
from usersync.events.secret_box import new_secret
from usersync.events.webhooks.delivery import WebhookDelivery
from usersync.events.webhooks.endpoint import Endpoint
from usersync.events.webhooks.request import signed_request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import ExitStack

    from measuring import Lab

IN_FLIGHT = 64
FORMAT = "cloudevents"

EVENT = NumberedEvent(
    **dict.fromkeys(EventRecord.__dataclass_fields__)
    | {
        "id": UUID(int=1),
        "occurred_at": datetime(2026, 5, 1, tzinfo=UTC),
        "recorded_at": datetime(2026, 5, 1, tzinfo=UTC),
        "action": "user.created",
        "outcome": "succeeded",
        "actor_id": "supabase_auth_admin",
        "actor_type": "system",
        "entity_type": "user",
        "entity_id": "01930000-0000-7000-8000-0000000000aa",
        "metadata": {"origin": "trigger", "actor_source": "role"},
        "source": "sync",
        "tie": "",
    },
    number=1,
)


@contextmanager
def receiver() -> Iterator[str]:
    """The URL of a receiver in another process."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("receiver.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/"
        finally:
            process.stdin.close()


async def _all(count: int, send: Callable[[], Awaitable[None]]) -> float:
    """The seconds for ``count`` requests, so many in flight."""
    left = iter(range(count))

    async def sender() -> None:
        for _ in left:
            await send()

    await asyncio.gather(*(sender() for _ in range(IN_FLIGHT)))  # opens the connections
    left = iter(range(count))
    started = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(IN_FLIGHT)))
    return time.perf_counter() - started


def signed(url: str, count: int) -> float:
    """Seconds a request of usersync."""

    async def run() -> float:
        secret = new_secret()
        delivery = WebhookDelivery(Endpoint(url, allow_private=True), lambda: [secret], format_name=FORMAT)

        # The first half opens the connections.
        events = iter([replace(EVENT, id=uuid4()) for _ in range(2 * count)])

        async def send() -> None:
            outcome = await delivery.deliver(next(events), 1)
            assert outcome.error is None, outcome.error

        try:
            return await _all(count, send)
        finally:
            await delivery.close()

    return asyncio.run(run()) / count


def unsigned(url: str, count: int) -> float:
    """Seconds a request of aiohttp alone."""

    async def run() -> float:
        request = signed_request(EVENT, FORMAT, [new_secret()])
        headers = {"Content-Type": "application/cloudevents+json"}
        connector = aiohttp.TCPConnector(limit=IN_FLIGHT)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def send() -> None:
                async with session.post(url, data=request.body, headers=headers) as answer:
                    await answer.read()
                    assert answer.ok

            return await _all(count, send)

    return asyncio.run(run()) / count


def measure(lab: Lab, stack: ExitStack) -> tuple[list[Row], dict[str, Any]]:
    """Send webhooks."""
    url, count = stack.enter_context(receiver()), lab.options.webhooks
    times = take_turns(
        {"ours": lambda: signed(url, count), "aiohttp": lambda: unsigned(url, count)}, lab.rounds
    )
    rows = [
        faster(
            f"webhook deliveries with signature, {IN_FLIGHT} in flight", "aiohttp, the same body unsigned",
            times, "ours", "aiohttp", limit=0.7,
        ),
        plain("webhook deliveries with signature", "", [1 / each for each in times["ours"]], "requests/s"),
    ]  # fmt: skip
    return rows, {}
