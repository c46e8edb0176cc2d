"""The fields of an event as SQL, for usersync's audit log or an application's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.config.audit_columns import FIELDS
from usersync.config.audit_rules import DEFAULT, most_specific_first
from usersync.config.mapping import quote
from usersync.sql.expressions import literal, literals

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from usersync.config.audit_columns import AuditColumn, AuditColumns
    from usersync.config.settings import Settings

#: The start of the comment on an audit log that usersync created.
OWN_COMMENT = "The audit log, made by usersync: "


#: The columns of the audit log that its first form (release 0.1.0) did not have.
ADDED_COLUMNS = ("tenant_id", "on_behalf_of", "db_role", "traceparent", "severity", "xid", "seq")

#: The CHECK constraints of the first form, as PostgreSQL prints them.
FORMER_CHECKS = (
    "CHECK (((length(action) >= 1) AND (length(action) <= 200)))",
    "CHECK ((outcome = ANY (ARRAY['succeeded'::text, 'failed'::text, 'denied'::text])))",
    "CHECK ((length(actor_id) <= 200))",
    "CHECK ((actor_type = ANY (ARRAY['user'::text, 'service'::text, 'system'::text, 'anonymous'::text])))",
    "CHECK ((length(entity_type) <= 200))",
    "CHECK ((length(entity_id) <= 200))",
    "CHECK ((length(request_id) <= 200))",
    "CHECK ((source = ANY (ARRAY['app'::text, 'trigger'::text, 'sync'::text])))",
)

#: The indexes of the audit log besides the primary key: their columns, and their definitions.
INDEXES = {
    # Deletion of a user (the foreign key), erasure; search --user.
    "user_id occurred_at": "(user_id, occurred_at) where user_id is not null",
    # search --actor.
    "actor_id occurred_at": "(actor_id, occurred_at)",
    # history, search --entity.
    "entity_type entity_id occurred_at": "(entity_type, entity_id, occurred_at)",
    # search --action.
    "action occurred_at": "(action, occurred_at)",
    # search --tenant, and a tenant that reads its own events.
    "tenant_id occurred_at": "(tenant_id, occurred_at) where tenant_id is not null",
    # search --on-behalf-of.
    "on_behalf_of occurred_at": "(on_behalf_of, occurred_at) where on_behalf_of is not null",
    # search --request.
    "request_id": "(request_id) where request_id is not null",
    # The newest page, stats, export, prune.
    "occurred_at": "(occurred_at)",
    # Readers that follow the log. It is small, because rows are stored in the order of both columns.
    "recorded_at xid": "using brin (recorded_at, xid) with (pages_per_range = 64, autosummarize = on)",
}

#: The columns of an index, as one text.
_COLUMNS_OF_INDEX = (
    "(select string_agg(attname, ' ' order by place) from unnest(index.indkey) "
    "with ordinality as part (number, place) join pg_attribute on attrelid = index.indrelid "
    "and attnum = number)"
)

#: The beginning of a uuid of version 7: the time in milliseconds.
ID_PREFIX = (
    "overlay(lpad(to_hex(floor(extract(epoch from {occurred_at}) * 1000)::bigint), 12, '0') || '-7' "
    "placing '-' from 9 for 0)"
)


def audit_log(settings: Settings) -> str:
    """The audit log; null if there is none, even if another table has its name."""
    is_log = "relkind in ('r', 'p')"
    if settings.audit.is_own:
        # A copy of the table may have the comment too.
        comment = "obj_description(pg_class.oid, 'pg_class')"
        is_log = f"relkind = 'p' and starts_with({comment}, {literal(OWN_COMMENT)})"
    name = literal(settings.audit_table.quoted)
    return (
        f"(select pg_class.oid::regclass from pg_class where pg_class.oid = to_regclass({name}) and {is_log})"
    )


def log_form() -> dict[str, str]:
    """Expressions about the form of a log ``log`` that usersync created."""
    wanted = f"index.indrelid = {{}} and {_COLUMNS_OF_INDEX} = wanted.columns"
    return {
        "added_columns": literals(ADDED_COLUMNS),
        "former_checks": literals(FORMER_CHECKS),
        "index_columns": literals(INDEXES),
        "index_definitions": literals(INDEXES.values()),
        "lacks_columns": (
            f"(select count(*) < {len(ADDED_COLUMNS)} or count(*) filter (where atthasdef) < 1 "
            f"from pg_attribute where attrelid = log and attname = any(array[{literals(ADDED_COLUMNS)}]) "
            "and not attisdropped)"
        ),
        "parent_index": f"(select indexrelid from pg_index as index where {wanted.format('log')} limit 1)",
        "partition_index": (
            f"(select indexrelid from pg_index as index where {wanted.format('relation')} and indisvalid and "
            "not exists (select from pg_inherits where inhrelid = indexrelid) limit 1)"
        ),
        "replaced_index": (
            f"{_COLUMNS_OF_INDEX} = 'recorded_at' and exists (select from pg_index as index "
            f"where index.indrelid = log and index.indisvalid and {_COLUMNS_OF_INDEX} = 'recorded_at xid')"
        ),
    }


#: What signed-in users read of an event: not the application's metadata, and nothing about the database.
READABLE_COLUMNS = (
    "id",
    "occurred_at",
    "action",
    "outcome",
    "severity",
    "actor_id",
    "actor_type",
    "on_behalf_of",
    "entity_type",
    "entity_id",
    "changes",
    "ip",
    "tenant_id",
)


@dataclass(frozen=True)
class Reader:
    """Signed-in users who read some events: a policy on the log, and a function."""

    enabled: bool
    policy: str
    function: str
    #: Compares a column with a claim of the token. Row-level security and the function use it.
    condition: str
    #: The claim. A policy with another comment is created again.
    claim: str
    #: The comment on the function.
    comment: str

    @property
    def signature(self) -> str:
        return f"public.{self.function}(timestamp with time zone, uuid, integer)"

    def describe(self) -> dict[str, Any]:
        """The reader as JSON data."""
        return {
            "enabled": self.enabled,
            "policy": self.policy,
            "condition": self.condition,
            "comment": f"usersync: {self.claim}",
            "function": self.signature,
        }


def readers(audit: AuditColumns) -> tuple[Reader, ...]:
    """Everybody who may read the log, if the settings say so."""
    return (
        Reader(
            audit.users_read,
            "A user reads their own events",
            "audit_events_of_user",
            f"actor_id = {_of_token('sub')}",
            "sub",
            "usersync: the events of the caller, newest first.",
        ),
        Reader(
            audit.tenants_read,
            "A tenant reads its own events",
            "audit_events_of_tenant",
            f"tenant_id = {_of_token(audit.tenant_claim)}",
            str(audit.tenant_claim),
            "usersync: the events of the caller's tenant, newest first.",
        ),
    )


def reader_rules(audit: AuditColumns) -> dict[str, str]:
    """Expressions about signed-in users who read the log."""
    named = readers(audit)
    return {
        "tenant_claim": _claim_path(audit.tenant_claim),
        "audit_readers": literal(json.dumps([each.describe() for each in named])),
        "reader_functions": literals(each.signature for each in named if each.enabled),
        "readable_columns": literals(READABLE_COLUMNS),
    }


def by_action(rules: Mapping[str, str], action: str, values: Mapping[str, str]) -> str:
    """The value of the rule that matches an expression ``action``; ``values`` are SQL expressions."""
    whens = []
    for pattern, value in most_specific_first(rules):
        is_match = (
            f"starts_with({action}, {literal(pattern[:-1])})"
            if pattern.endswith("*")
            else f"{action} = {literal(pattern)}"
        )
        whens.append(f" when {is_match} then {values[value]}")
    default = values[rules[DEFAULT]] if DEFAULT in rules else "null"
    return f"case{''.join(whens)} else {default} end" if whens else default


def severity_of(audit: AuditColumns, action: str) -> str:
    """The severity that the settings give to an expression ``action``."""
    return by_action(audit.severity, action, {value: literal(value) for value in audit.severity.values()})


def _of_token(claim: str | None) -> str:
    """The claim of the caller's token. Null for anonymous users."""
    claims = "nullif(current_setting('request.jwt.claims', true), '')::jsonb"
    # A sub-select, so that the planner runs it once and not for each row.
    return (
        f"(select case when ({claims} ->> 'is_anonymous') is distinct from 'true' "
        f"then {claims} #>> {_claim_path(claim)} end)"
    )


def _claim_path(claim: str | None) -> str:
    return literal(_text_array(claim.split("."))) + "::text[]" if claim else "null::text[]"


def _text_array(names: Iterable[str]) -> str:
    return "{" + ",".join(f'"{name}"' for name in names) + "}"


def audit_column_list(audit: AuditColumns) -> str:
    """The columns of the audit table that are written."""
    columns = [quote(column.name) for column in audit.effective().values()]
    return ", ".join([*columns, '"seq"'] if audit.is_own else columns)


def audit_key(audit: AuditColumns) -> str:
    """The unique columns, because of which an event is stored once."""
    return '"id", "occurred_at"' if audit.is_own else quote(audit.columns["id"].name)


def is_audit_id(audit: AuditColumns) -> str:
    """Whether a row ``stored`` is the event ``given.id``."""
    column = audit.effective()["id"]
    return f"stored.{quote(column.name)} = given.id" + (f"::{column.type}" if column.type else "")


def audit_user(audit: AuditColumns) -> str:
    """The column that links to the user. Without one, the id column, which is then never written."""
    columns = audit.effective()
    return quote(columns.get("user_id", columns["id"]).name)


def is_audit_user(settings: Settings) -> str:
    """Whether a row ``stored`` is linked to the user ``going.id``."""
    column = settings.audit.effective().get("user_id")
    if column is None:
        return "false"
    stored = f"stored.{quote(column.name)}"
    if settings.audit.is_own:
        return settings.key_type.matches(stored, "going.id")
    return f"{stored} = going.id" + (f"::{column.type}" if column.type else "")


def kept_event_fields() -> str:
    """The fields of an event ``given`` that the failures table keeps. The user is linked again."""
    return ", ".join(f"given.{name}" for name in FIELDS if name not in {"recorded_at", "user_id"})


def audit_value_list(audit: AuditColumns, known: Mapping[str, str] | None = None) -> str:
    """The values of these columns, from a row ``event`` with all fields of an event except the known ones."""
    columns = audit.effective()
    fields = {name: f"event.{name}" for name in FIELDS} | dict(known or {})
    values = {name: _value(name, columns, fields) for name in columns}
    written = [
        f"({values[name]})::{column.type}" if column.type else values[name]
        for name, column in columns.items()
    ]
    # Not a default of the column: a dump of only the schema public lacks the sequence, and could not be
    # loaded.
    return ", ".join([*written, "nextval('usersync.audit_log_seq')"] if audit.is_own else written)


def _value(name: str, columns: Mapping[str, AuditColumn], fields: Mapping[str, str]) -> str:
    if name == "ip" and columns["ip"].type == "text":
        return f"host({fields['ip']})"  # inet::text would add the length of the network
    if name != "metadata":
        return fields[name]
    unmapped = [field for field in FIELDS if field not in columns]
    if not unmapped:
        return fields["metadata"]
    pairs = ", ".join(f"{literal(field)}, {fields[field]}" for field in unmapped)
    # jsonb_strip_nulls would also remove nested nulls.
    return (
        f"({_set_apart([*unmapped, SET_APART])}) || (select coalesce(jsonb_object_agg(key, value), '{{}}') "
        f"from jsonb_each(jsonb_build_object({pairs})) where value <> 'null')"
    )


#: The key in the metadata for the caller's entries that have the name of a field without a column.
SET_APART = "metadata"


def _set_apart(reserved: list[str]) -> str:
    """The caller's metadata. Entries with the name of a field are one level down."""
    names = f"array[{literals(reserved)}]"
    return (
        f"case when jsonb_exists_any(event.metadata, {names}) then event.metadata - {names} || "
        f"jsonb_build_object({literal(SET_APART)}, (select jsonb_object_agg(key, value) "
        f"from jsonb_each(event.metadata) where key = any({names}))) else event.metadata end"
    )
