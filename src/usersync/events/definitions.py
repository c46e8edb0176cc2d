"""What a handler and its subscription have in common: which events it wants."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from usersync.events.models import Subscription
from usersync.events.subscriptions import HANDLER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usersync.events.handlers import Handler


def definitions(handlers: Iterable[Handler]) -> tuple[Subscription, ...]:
    """The subscriptions of handlers."""
    return tuple(
        Subscription(each.name, HANDLER, each.actions, each.wanted, each.config) for each in handlers
    )


def definition(subscription: Subscription) -> tuple[str, frozenset[str], str]:
    """What two versions of a subscription are compared by: kind, actions and filters."""
    wanted = json.dumps(dict(subscription.wanted), sort_keys=True)
    return subscription.kind, frozenset(subscription.actions), wanted
