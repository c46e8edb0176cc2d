"""Calls the handlers of the application."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from usersync.events.delivery import SUCCEEDED

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from usersync.audit.models import NumberedEvent
    from usersync.events.delivery import AttemptOutcome
    from usersync.events.handlers import Handler
    from usersync.worker.session import Session


class HandlerDelivery:
    """Calls one handler, in the lane's thread."""

    concurrency = 1

    def __init__(self, handler: Handler, time_limit: float, session: Session | None = None) -> None:
        self._handler = handler
        self.time_limit = time_limit
        #: The transaction of a transactional handler.
        self.session = session

    def deliver(
        self,
        event: NumberedEvent,
        attempt: int,  # noqa: ARG002 - of the protocol
    ) -> AttemptOutcome | Awaitable[AttemptOutcome]:
        given = (event,) if self.session is None else (event, self.session.connection)
        result = self._handler.function(*given)
        return _awaited(result) if inspect.isawaitable(result) else SUCCEEDED

    async def close(self) -> None:
        if self.session is not None:
            await self.session.close()


async def _awaited(result: Awaitable[Any]) -> AttemptOutcome:
    await result
    return SUCCEEDED
