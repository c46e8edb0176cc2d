"""The section ``[audit]`` of the settings: the column of the audit table for each field of an event."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usersync.config.audit_rules import parse_retention, parse_severity
from usersync.config.mapping import TableName, check_keys, check_name, parse_flag, parse_name, parse_type
from usersync.config.personal_data import PERSONAL, spelt
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_WORD = 100

#: The fields of an event, and their types in a table that usersync creates.
FIELDS: Mapping[str, str] = {
    "id": "uuid",
    "occurred_at": "timestamptz",
    "recorded_at": "timestamptz",
    "action": "text",
    "outcome": "text",
    "actor_id": "text",
    "actor_type": "text",
    "user_id": "uuid",
    "entity_type": "text",
    "entity_id": "text",
    "changes": "jsonb",
    "metadata": "jsonb",
    "request_id": "text",
    "ip": "inet",
    "user_agent": "text",
    "source": "text",
    "tenant_id": "text",
    "on_behalf_of": "text",
    "db_role": "text",
    "traceparent": "text",
    "severity": "text",
}


AUDIT_TABLE = TableName("public", "audit_logs")

#: The keys of the section ``[audit]``, and what they mean.
AUDIT_KEYS: Mapping[str, str] = {
    "enabled": "`[audit] enabled = true`: usersync creates the audit log. Without it none is created, and "
    "one that exists stays in use.",
    "table": "`[audit] table`: the name of the log.",
    "columns": "`[audit.columns]`: for an audit table of the application's own, the column of each field of "
    "an event. `id` must be mapped, to a column with a unique constraint: it makes sure that an event is "
    "stored once. Fields that are not mapped go into the column for `metadata`.",
    "tenant_claim": "`[audit] tenant_claim`: the claim of the token that names the tenant of an event, for "
    "example `app_metadata.tenant_id`.",
    "tenants_read": "`[audit] tenants_read = true`: signed-in users read the events of their tenant.",
    "users_read": "`[audit] users_read = true`: signed-in users read their own events.",
    "retention": "`[audit.retention]`: how long `usersync audit prune` keeps events, by action "
    '(`"auth.login"`, `"auth.*"`), and all others (`default`).',
    "severity": "`[audit.severity]`: the severity of events that have none, by action.",
    "personal": "`[audit] personal`: the words by which `usersync erase` finds the keys in `changes` and "
    "`metadata` that hold personal data.",
    "user_events": "`[audit] user_events = true`: the sync records `user.created`, `user.updated` (with the "
    "names of the changed columns) and `user.deleted` in the log.",
    "feed": "`[audit] feed = true`: gives an audit table of the application's own a feed (`audit.feed()`). A "
    "trigger on the table notes new rows. The first subscription does the same. usersync's own log always "
    "has a feed.",
    "user_event_values": "`[audit] user_event_values = true`: these events also have the old and new values "
    "of the columns.",
}


@dataclass(frozen=True)
class AuditColumn:
    """A column of the application's audit table, and its type if it differs from the type of the field."""

    name: str
    type: str | None = None


@dataclass(frozen=True)
class AuditColumns:
    """The section ``[audit]``.

    ``columns`` is empty for a table that usersync creates: its columns have the names of the fields.
    ``personal`` are the words by which ``usersync erase`` finds personal data. ``enabled``: usersync creates
    the table. ``tenant_claim``: the claim of the token that names the tenant, a path with dots.
    ``tenants_read``: signed-in users read the events of their tenant; ``users_read``: their own events.
    ``retention`` (a duration) and ``severity`` by action.
    ``user_events``: the sync records ``user.created``, ``user.updated`` and ``user.deleted``.
    ``user_event_values``: also the old and new values of the columns.
    ``feed``: the application's audit table has a feed, even without a subscription.
    """

    columns: Mapping[str, AuditColumn] = field(default_factory=dict)
    personal: tuple[str, ...] = PERSONAL
    table: TableName = AUDIT_TABLE
    enabled: bool = False
    tenant_claim: str | None = None
    tenants_read: bool = False
    retention: Mapping[str, str] = field(default_factory=dict)
    severity: Mapping[str, str] = field(default_factory=dict)
    user_events: bool = False
    user_event_values: bool = False
    users_read: bool = False
    feed: bool = False

    @property
    def is_own(self) -> bool:
        """Whether usersync creates the table."""
        return not self.columns

    def effective(self) -> Mapping[str, AuditColumn]:
        """The column of each field, for either kind of table, in the order of the fields."""
        columns = self.columns or {name: AuditColumn(name) for name in FIELDS}
        return {name: columns[name] for name in FIELDS if name in columns}

    def describe(self) -> dict[str, Any]:
        """The section as plain data, in the form that ``parse_audit()`` reads."""
        return {
            "enabled": self.enabled,
            "table": str(self.table),
            "columns": {
                name: {"column": column.name, "type": column.type} if column.type else column.name
                for name, column in self.columns.items()
            },
            "personal": list(self.personal),
        } | {
            name: value
            for name, value in (
                ("tenant_claim", self.tenant_claim),
                ("tenants_read", self.tenants_read),
                ("users_read", self.users_read),
                ("retention", dict(self.retention)),
                ("severity", dict(self.severity)),
                ("user_events", self.user_events),
                ("user_event_values", self.user_event_values),
                ("feed", self.feed),
            )
            if value
        }


def parse_audit(value: object, where: str) -> AuditColumns:
    """Read the section ``[audit]``. Raises ``SettingsError``."""
    if not isinstance(value, dict):
        raise SettingsError(f"{where}: expected a table, as in: [audit] enabled = true")
    check_keys(value, AUDIT_KEYS, where, "setting")
    enabled, user_events, user_event_values, feed = (
        parse_flag(value.get(name, False), f"{where}.{name}")
        for name in ("enabled", "user_events", "user_event_values", "feed")
    )
    if user_event_values and not user_events:
        raise SettingsError(
            f"{where}.user_event_values: without user_events no event of a user is recorded",
            hint=f"Set {where}.user_events = true as well.",
        )
    table = parse_name(value["table"], f"{where}.table") if "table" in value else AUDIT_TABLE
    personal = _parse_personal(value.get("personal", list(PERSONAL)), f"{where}.personal")
    given = value.get("columns", {})
    if not isinstance(given, dict):
        raise SettingsError(f"{where}.columns: expected a TOML table")
    columns = {name: _parse_column(name, entry, f"{where}.columns.{name}") for name, entry in given.items()}
    if columns and "id" not in columns:
        raise SettingsError(
            f"{where}.columns: the field id is not mapped",
            hint="Add a column for it: alter table … add column event_id uuid unique; Without it, an event "
            "that is sent again would be stored twice.",
        )
    if len({column.name for column in columns.values()}) < len(columns):
        raise SettingsError(f"{where}.columns: two fields are mapped to the same column")
    claim = _parse_tenant_claim(value.get("tenant_claim"), where)
    tenants_read, users_read = (
        _parse_reader(value.get(name, False), f"{where}.{name}", is_own=not columns)
        for name in ("tenants_read", "users_read")
    )
    if tenants_read and claim is None:
        raise SettingsError(
            f"{where}.tenants_read: tenant_claim is missing",
            hint='Name the claim of the token: tenant_claim = "app_metadata.tenant_id"',
        )
    retention = parse_retention(value.get("retention", {}), f"{where}.retention")
    severity = parse_severity(value.get("severity", {}), f"{where}.severity")
    if retention and columns:
        raise SettingsError(
            f"{where}.retention: the audit log is the application's own table",
            hint="usersync does not delete its rows: use the application's own retention.",
        )
    return AuditColumns(
        columns,
        personal,
        table,
        enabled,
        tenant_claim=claim,
        tenants_read=tenants_read,
        users_read=users_read,
        feed=feed,
        retention=retention,
        severity=severity,
        user_events=user_events,
        user_event_values=user_event_values,
    )


def _parse_reader(value: object, where: str, *, is_own: bool) -> bool:
    reads = parse_flag(value, where)
    if reads and not is_own:
        raise SettingsError(
            f"{where}: the audit log is the application's own table", hint="Write a policy for it."
        )
    return reads


def _parse_tenant_claim(claim: object, where: str) -> str | None:
    if claim is not None and not (isinstance(claim, str) and re.fullmatch(r"[\w:/-]+(\.[\w:/-]+)*", claim)):
        raise SettingsError(
            f"{where}.tenant_claim: expected the path of a claim, got {claim!r:.80}",
            hint='For example: tenant_claim = "app_metadata.tenant_id"',
        )
    if claim is not None and claim.split(".")[0] == "user_metadata":
        raise SettingsError(
            f"{where}.tenant_claim: users can write user_metadata, and could choose their tenant",
            hint='Keep the tenant in app_metadata: tenant_claim = "app_metadata.tenant_id"',
        )
    return claim


def _parse_personal(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise SettingsError(f'{where}: expected a list of words, as in ["email", "phone"]')
    for each in value:
        if len(each) > _LONGEST_WORD or not spelt(each).strip("_"):
            raise SettingsError(f"{where}: {each[:_LONGEST_WORD]!r} cannot be a word of a key")
    return tuple(value)


def _parse_column(name: str, entry: object, where: str) -> AuditColumn:
    if name not in FIELDS:
        raise SettingsError(f"{where}: an event has no field {name}", hint=f"Fields: {', '.join(FIELDS)}.")
    if isinstance(entry, str):
        return AuditColumn(check_name(entry, where))
    check_keys(entry if isinstance(entry, dict) else (), ("column", "type"), where)
    if isinstance(entry, dict) and isinstance(entry.get("column"), str):
        return AuditColumn(check_name(entry["column"], where), parse_type(entry.get("type"), where))
    raise SettingsError(f'{where}: expected a column, or {{ column = "…", type = "…" }}')
