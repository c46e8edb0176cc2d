"""Which kinds of subscriptions a worker can serve, besides Python handlers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usersync.events.delivery import Delivery
    from usersync.events.models import Subscription

#: Creates the delivery of a subscription; called in the thread and the event loop of the subscription.
Kind = Callable[["Subscription"], "Delivery"]


def no_kind(subscription: Subscription) -> Delivery:
    """For a kind that the worker does not have."""
    raise LookupError(subscription.kind)


def _webhook(subscription: Subscription) -> Delivery:
    from usersync.events.webhooks.subscription import delivery_of  # noqa: PLC0415 - needs an extra

    return delivery_of(subscription)


#: By the ``kind`` of the subscription.
KINDS: Mapping[str, Kind] = {"webhook": _webhook}
