"""What subscriptions of webhooks and of streams have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.audit.models import EventFilter
from usersync.errors import ArgumentValueError, SettingsError
from usersync.events.formats import FORMATS
from usersync.events.handlers import check_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from usersync.events.models import Subscription


def checked_actions(name: str, actions: Iterable[str], format_name: str) -> tuple[str, ...]:
    """The actions of a new subscription, each once. Raises ``ArgumentValueError`` for a wrong argument."""
    check_name(name)
    actions = tuple(dict.fromkeys(actions))
    for each in actions:
        EventFilter(action=each)
    if format_name not in FORMATS:
        raise ArgumentValueError(f"format: expected {', '.join(FORMATS)}, got {format_name!r:.80}")
    return actions


def check_kind(subscription: Subscription, kind: str) -> None:
    """Raise ``SettingsError`` unless the subscription is of this kind."""
    if subscription.kind != kind:
        raise SettingsError(
            f"the subscription {subscription.name} is a {subscription.kind}, not a {kind}",
            hint="See: usersync subscriptions list",
        )
