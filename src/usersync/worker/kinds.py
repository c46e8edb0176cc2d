"""Which kinds of subscriptions a worker can serve, besides Python handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from usersync.config.extras import missing
from usersync.errors import SettingsError
from usersync.events.subscriptions import STREAM, WEBHOOK

if TYPE_CHECKING:
    from usersync.events.delivery import Delivery
    from usersync.events.models import Subscription

#: Creates the delivery of a subscription; called in the thread and the event loop of the subscription.
DeliveryFactory = Callable[["Subscription"], "Delivery"]


def no_kind(subscription: Subscription) -> Delivery:
    """For a kind that the worker does not have."""
    raise LookupError(subscription.kind)


def _webhook(subscription: Subscription) -> Delivery:
    from usersync.events.webhooks.subscription import delivery_of  # noqa: PLC0415 - needs an extra

    return delivery_of(subscription)


def _stream(subscription: Subscription) -> Delivery:
    from usersync.events.streams.subscription import delivery_of  # noqa: PLC0415 - needs an extra

    return delivery_of(subscription)


def available_kinds() -> Mapping[str, DeliveryFactory]:
    """What this process can serve, by the ``kind`` of the subscription.

    Without the extra or the key, every event would fail, so webhooks and streams are left to other workers.
    """
    return {kind: make for kind, make in _KINDS.items() if problem_of(kind) is None}


_KINDS: Mapping[str, DeliveryFactory] = {WEBHOOK: _webhook, STREAM: _stream}


def problem_of(kind: str) -> SettingsError | None:
    """Why this process cannot serve the subscriptions of a kind."""
    return missing("nats", "publishing to a stream") if kind == STREAM else _webhook_problem()


def _webhook_problem() -> SettingsError | None:
    if lacking := missing("webhooks", "the sender of webhooks"):
        return lacking
    from usersync.events.secret_box import SecretBox  # noqa: PLC0415 - needs an extra

    try:
        SecretBox.from_environment()
    except SettingsError as error:
        return error
    return None
