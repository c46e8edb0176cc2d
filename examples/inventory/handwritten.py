"""The audit log as it was before usersync: an INSERT of one's own, in the operation's transaction.

It has the foreign key's problem: a user without a row in public.users fails the whole operation (23503).
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    import psycopg

_INSERT = """
    insert into public.audit_logs (user_id, action, entity_type, entity_id, changes)
    values (%s, %s, %s, %s, %s)
"""


class HandWrittenLog:
    """What the inventory uses of ``AuditLog``, done by hand."""

    def __init__(self) -> None:
        self._user_id: UUID | None = None

    @contextmanager
    def context(self, *, actor_id: UUID) -> Iterator[None]:
        """Remember who is acting."""
        self._user_id = actor_id
        yield
        self._user_id = None

    def record_in(
        self,
        connection: psycopg.Connection[Any],
        action: str,
        *,
        entity: tuple[str, int],
        changes: dict[str, Any],
    ) -> None:
        """Write a line of the log in the caller's transaction."""
        kind, key = entity
        connection.execute(_INSERT, [self._user_id, action, kind, str(key), json.dumps(changes)])
