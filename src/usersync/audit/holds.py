"""Legal holds: events of a tenant or an entity that are neither pruned nor erased."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.audit.models import Hold
from usersync.audit.reading import settings_with_log
from usersync.errors import SettingsError
from usersync.transports.steps import Steps, query

if TYPE_CHECKING:
    from collections.abc import Mapping

_COLUMNS = "hold_id, tenant_id, entity_type, entity_id, reason, created_at, created_by"


def holds() -> Steps[tuple[Hold, ...]]:
    """All legal holds, the oldest first."""
    rows = yield from query(f"select {_COLUMNS} from usersync.audit_holds order by hold_id")
    return tuple(Hold(**row) for row in rows)


def add(
    reason: str,
    *,
    by: str | None = None,
    tenant_id: str | None = None,
    entity_type: str | None = None,
    entity_id: str | None = None,
) -> Steps[Hold]:
    """Hold the events of a tenant, of an entity, or of all entities of a type. Returns the hold.

    Raises ``SettingsError`` if not exactly one of these is given, or if the reason is empty.
    """
    yield from settings_with_log()
    if (tenant_id is None) == (entity_type is None) or not reason.strip():
        raise SettingsError(
            "a legal hold needs a reason, and either a tenant or an entity",
            hint='usersync audit hold add --tenant acme --reason "case 4711"',
        )
    rows = yield from query(
        "insert into usersync.audit_holds (tenant_id, entity_type, entity_id, reason, created_by) values "
        f"(%(tenant_id)s, %(entity_type)s, %(entity_id)s, %(reason)s, coalesce(%(by)s, session_user)) "
        f"returning {_COLUMNS}",
        tenant_id=tenant_id,
        entity_type=entity_type,
        entity_id=entity_id,
        reason=reason,
        by=by,
    )
    return Hold(**rows[0])


def remove(hold_id: int) -> Steps[Hold]:
    """Remove a legal hold, and return it. Raises ``SettingsError`` if there is none."""
    rows = yield from query(
        f"delete from usersync.audit_holds where hold_id = %(hold_id)s returning {_COLUMNS}", hold_id=hold_id
    )
    if not rows:
        raise SettingsError(f"there is no legal hold {hold_id}", hint="See: usersync audit hold list")
    return Hold(**rows[0])


def is_held(fields: Mapping[str, str]) -> str:
    """An SQL condition: a hold applies to an event. ``fields`` are expressions of type text, by field."""
    kind, key = fields.get("entity_type", "null"), fields.get("entity_id", "null")
    return (
        "exists (select from usersync.audit_holds as hold where "
        f"hold.tenant_id = {fields.get('tenant_id', 'null')} "
        f"or (hold.entity_type = {kind} and coalesce(hold.entity_id, {key}) is not distinct from {key}))"
    )
