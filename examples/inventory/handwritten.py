"""A hand-written audit log, without usersync: an INSERT in the operation's transaction.

Its foreign key fails the whole operation (23503) if the user has no row in public.users.
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
    """A hand-written replacement for the parts of ``AuditLog`` that the inventory uses."""

    def __init__(self) -> None:
        self._user_id: UUID | None = None

    @contextmanager
    def context(self, *, actor_id: UUID) -> Iterator[None]:
        """Store the actor."""
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
        """Insert a row of the log in the caller's transaction."""
        kind, key = entity
        connection.execute(_INSERT, [self._user_id, action, kind, str(key), json.dumps(changes)])
