"""For Dramatiq: sends the audit context with each message to its worker.

::

    broker = RedisBroker(url=…)
    pass_context(broker)  # in the module of the broker, which the web application and the workers import
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from usersync.config.extras import needed
from usersync.contrib.carrying import KEY, carried_context, resumed_context

with needed("dramatiq", "usersync.contrib.dramatiq"):
    from dramatiq import Middleware

if TYPE_CHECKING:
    from dramatiq import Broker, MessageProxy
    from dramatiq.message import Message

__all__ = ["ContextMiddleware", "pass_context"]


class ContextMiddleware(Middleware):
    """The middleware that ``pass_context()`` adds."""

    def __init__(self) -> None:
        self._opened: dict[str, ExitStack] = {}

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:  # noqa: ARG002
        """See ``dramatiq.Middleware``."""
        # A message that is sent again keeps its context.
        if KEY not in message.options and (context := carried_context()):
            message.options[KEY] = context

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:  # noqa: ARG002
        """See ``dramatiq.Middleware``."""
        opened = self._opened[message.message_id] = ExitStack()
        opened.enter_context(resumed_context(message.options.get(KEY)))

    def after_process_message(self, broker: Broker, message: MessageProxy, **_: object) -> None:  # noqa: ARG002
        """See ``dramatiq.Middleware``."""
        if opened := self._opened.pop(message.message_id, None):
            opened.close()

    after_skip_message = after_process_message


def pass_context(broker: Broker) -> None:
    """Send the actor, the request id and the tenant with each message, and process each message with them.

    A message that was sent without a context is processed in an empty one. Retries and pipelines keep the
    context. The context is stored in the message's options, without encryption. A second call has no effect.
    """
    if any(isinstance(each, ContextMiddleware) for each in broker.middleware):
        return
    # The first one ends last: other middleware sends the next message of a pipeline.
    first = type(broker.middleware[0]) if broker.middleware else None
    broker.add_middleware(ContextMiddleware(), before=first)
