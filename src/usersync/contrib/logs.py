"""The request id of the audit context in log records, of the standard library's logging and of structlog.

::

    handler.addFilter(ContextFilter())
    handler.setFormatter(logging.Formatter("%(levelname)s [%(request_id)s] %(message)s"))

    structlog.configure(processors=[add_context, …])
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from usersync.audit.event.context import current
from usersync.audit.event.event import label

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["ContextFilter", "add_context"]

_NAMES = ("request_id", "tenant_id", "actor_id")


def _found() -> dict[str, str]:
    fields = current()
    # A callable actor is not called: it may query the database, for each line of the log.
    known = {name: fields.get(name) for name in _NAMES}
    return {name: label(value) for name, value in known.items() if value is not None and not callable(value)}


class ContextFilter(logging.Filter):
    """Gives each record the attributes ``request_id``, ``tenant_id`` and ``actor_id``, empty if unknown.

    An attribute that the record has already does not change. ``actor_id`` stays empty while it is a function.
    Add it to a handler: a logger does not pass the records of its children through its filters.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True: every record passes."""
        found = _found()
        for name in _NAMES:
            if not hasattr(record, name):
                setattr(record, name, found.get(name, ""))
        return True


def add_context(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The processor for structlog: adds ``request_id``, ``tenant_id`` and ``actor_id`` where they are known.

    A key that the event has already does not change.
    """
    for name, value in _found().items():
        event.setdefault(name, value)
    return event
