"""The audit context as settings of a database transaction, where row tracking reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.audit.event.context import current, with_actor
from usersync.audit.event.event import USER_AGENT_LENGTH, address, label

if TYPE_CHECKING:
    from collections.abc import Callable

#: Each is a setting with the prefix ``usersync.``.
NAMES = ("actor_id", "actor_type", "on_behalf_of", "request_id", "tenant_id", "ip", "user_agent")

NOTHING = ("",) * len(NAMES)


def settings_of_context() -> tuple[str, ...]:
    """The values of ``NAMES`` in the caller's context; empty if unknown."""
    fields = current()
    if not fields:
        return NOTHING
    fields = with_actor(fields)
    given = {name: value for name in NAMES if (value := fields.get(name)) is not None}
    return tuple(_WRITERS[name](given[name]) if name in given else "" for name in NAMES)


def _ip(value: object) -> str:
    text = label(value)
    return address(text) or text


_WRITERS: dict[str, Callable[[object], str]] = {
    "actor_id": label,
    "actor_type": label,
    "request_id": label,
    "tenant_id": label,
    "ip": _ip,
    "on_behalf_of": label,
    "user_agent": lambda value: label(value, USER_AGENT_LENGTH),
}
