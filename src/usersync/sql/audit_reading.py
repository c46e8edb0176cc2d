"""SQL expressions that read an event from usersync's audit log or from an application's own.

Percent signs in names are doubled, because these texts are run with parameters, or are templates for
PostgreSQL's ``format()``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from usersync.config.audit_columns import FIELDS
from usersync.config.mapping import quote
from usersync.errors import SettingsError
from usersync.sql.audit_expressions import SET_APART
from usersync.sql.expressions import literal, literals

if TYPE_CHECKING:
    from usersync.config.settings import Settings

_ZONELESS = ("timestamp", "timestamp without time zone")

#: The fields that a search compares with a value.
FILTERED = (
    "id", "user_id", "actor_id", "entity_type", "entity_id", "action", "outcome", "request_id",
    "tenant_id", "on_behalf_of", "severity",
)  # fmt: skip
#: A uuid as PostgreSQL writes it.
_UUID = "'^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"
_TIMES = ("timestamptz", "timestamp with time zone", *_ZONELESS)


#: The shard of an event. See ``usersync.shard_of()``.
SHARD = (
    "(get_byte(sha256(convert_to("
    "coalesce({entity_type} || '/' || {entity_id}, {event_id}::text), 'UTF8')), 0) & 15)"
)

#: Fields that were keys in the metadata before they had columns.
_MOVED = ("db_role", "traceparent")


class AuditReading:
    """Expressions over a row ``stored`` of the audit table."""

    def __init__(self, settings: Settings) -> None:
        self._columns = settings.audit.effective()
        self.is_own = settings.audit.is_own
        self._key_type = settings.key_type
        self.table = _escaped(settings.audit_table.quoted)

    def column(self, name: str) -> str:
        """The field as it is stored, for comparisons. A field without a column is text from the metadata."""
        column = self._columns.get(name)
        if column is not None:
            stored = _escaped(f"stored.{quote(column.name)}")
            return f"({stored} at time zone 'UTC')" if column.type in _ZONELESS else stored
        metadata = self._columns.get("metadata")
        if metadata is None or name == "metadata":
            return "null::text"
        # to_jsonb, because the column may have any type and any content.
        return _escaped(f"(to_jsonb(stored.{quote(metadata.name)}) ->> {literal(name)})")

    def _is_given(self, name: str) -> str:
        """A template: whether the field equals a value."""
        sign = self._key_type.operator("=") if self._links_by_key(name) else "="
        return f"{self.column(name)} {_escaped(sign)} {self._value(name)}"

    def _links_by_key(self, name: str) -> bool:
        return name == "user_id" and self.is_own

    def _value(self, name: str) -> str:
        """A template for a value in the type of ``column()``."""
        column = self._columns.get(name)
        if self._links_by_key(name):
            return f"%L::{_escaped(self._key_type.sql)}"
        return f"%L::{(column.type or FIELDS[name]) if column else 'text'}"

    def templates(self) -> str:
        """The parts of a search as templates for ``format()``, as JSON. A value is ``%L``.

        Without a mapped time there is none for it, because then events have no order.
        """
        filters = {name: self._is_given(name) for name in FILTERED} | {"words": self._holds_word()}
        try:
            in_time = {"time": self.time, "tie": self.tie, "select": self.select, "numbered": self.numbered}
            filters |= {"since": f"{self.time} >= %L::timestamptz", "until": f"{self.time} < %L::timestamptz"}
        except SettingsError:
            in_time = {}
        found = {
            **in_time,
            **self._of_feed(),
            "filters": filters,
            "prefix": f"{self.column('action')} like %L",
            "shards": f"{self._shard()} = any (%L)",
        }
        return json.dumps(found, ensure_ascii=False)

    def _shard(self) -> str:
        """The shard of an event in the feed. A call of ``usersync.shard_of()`` takes five times as long."""
        given = {name: f"{self.column(name)}::text" for name in ("entity_type", "entity_id")}
        return SHARD.format(**given, event_id="numbered.event_id")

    def _of_feed(self) -> dict[str, str]:
        """Templates for the feed. ``numbered`` is a row of ``usersync.event_numbers``."""
        if self.is_own:
            return {}
        return {
            "noted_id": self.noted_id,
            "noted_text": self.noted_text,
            "noted_time": self.noted_time,
            "has_id": self.has_id,
        }

    @property
    def numbered(self) -> str:
        """A query for the event that a row ``numbered`` of ``usersync.event_numbers`` is about.

        For usersync's log, a template for the times of the first and the last event of the page.
        """
        # Without OFFSET, the planner may read the whole log for a page, or for each event all events with its
        # action. A table of the application may have no index on the id. With the times, the planner only
        # opens the partitions of the page. See has_number for ALL.
        span = (
            " and stored.occurred_at >= all (array[%1$L::timestamptz])"
            " and stored.occurred_at <= all (array[%2$L::timestamptz]) offset 0"
        )
        return (
            f"select {self.fields()} from (select stored.ctid, stored.* from {self.table} as stored "
            f"where {self.has_number}{span if self.is_own else ''}) as stored"
        )

    @property
    def has_number(self) -> str:
        """Whether a row ``numbered`` of ``usersync.event_numbers`` is about the event."""
        if self.is_own:
            # The time selects the partition. With ALL, no index is used for it: if an import has given a
            # million events the same time, the index on the time finds all of them for each event.
            return "stored.id = numbered.event_id and stored.occurred_at = all (array[numbered.occurred_at])"
        given = "numbered.event_id"
        if not self._has_uuid:
            kind = _escaped(self._columns["id"].type or "text")
            given = f"coalesce(numbered.stored_id, {given}::text)::{kind}"
        return f"{self.column('id')} = {given}"

    @property
    def has_id(self) -> str:
        """Whether the event has an id. In the application's table, it may have none."""
        return f"{self.column('id')} is not null"

    @property
    def _has_uuid(self) -> bool:
        return (self._columns["id"].type or FIELDS["id"]) == "uuid"

    @property
    def noted_id(self) -> str:
        """The id of an event in the feed: a uuid, whatever the application's table has."""
        column = self.column("id")
        if self._has_uuid:
            return column
        hashed = f"left(encode(sha256(convert_to({column}::text, 'UTF8')), 'hex'), 32)::uuid"
        return f"case when {column}::text ~ {_UUID} then {column}::text::uuid else {hashed} end"

    @property
    def noted_text(self) -> str:
        """The id as the table has it; null if it is that of the feed."""
        column = self.column("id")
        return (
            "null::text" if self._has_uuid else f"case when {column}::text !~ {_UUID} then {column}::text end"
        )

    @property
    def noted_time(self) -> str:
        """The time of an event in the feed; without a mapped time, the time of the transaction."""
        for name in ("occurred_at", "recorded_at"):
            column = self._columns.get(name)
            if column is not None and (column.type or FIELDS[name]) in _TIMES:
                return f"coalesce({self.column(name)}, now())"
        return "now()"

    @property
    def select(self) -> str:
        """A query for all events, without conditions."""
        return f"select {self.fields()} from {self.table} as stored"

    def _holds_word(self) -> str:
        """A template: whether a value in metadata or changes contains a word. Names of keys are not searched.

        The second value is the word as it is written in JSON.
        """
        values = (
            "jsonb_path_query(found.document, "
            """'strict $.** ? (@.type() != "object" && @.type() != "array")')"""
        )
        return (
            f"exists (select from (select {self._document} as document offset 0) as found "
            "where position(lower(%2$L) in lower(found.document::text)) > 0 and exists ("
            f"select from {values} as each (value) "
            "where position(lower(%1$L) in lower(each.value #>> '{}')) > 0))"
        )

    @property
    def _unmapped(self) -> list[str]:
        """The fields without a column, which are stored in the metadata."""
        return [name for name in FIELDS if name not in self._columns]

    def _document_of(self, name: str) -> str:
        if name not in self._columns:
            return self.column(name).replace("->>", "->").replace("null::text", "null::jsonb")
        stored = f"to_jsonb({self.column(name)})"
        return self._own_metadata(stored) if name == "metadata" and self._unmapped else stored

    def _own_metadata(self, stored: str) -> str:
        """The metadata without the fields that have no column of their own and were added to it."""
        names = _escaped(f"array[{literals(self._unmapped)}]")
        apart = f"{stored} -> {literal(SET_APART)}"
        return (
            f"case when jsonb_typeof({stored}) <> 'object' then {stored} "
            f"when {self.column('id')} is null or jsonb_typeof({apart}) is distinct from 'object' "
            f"then {stored} - {names} "
            f"else ({stored} - {names} - {literal(SET_APART)}) || ({apart}) end"
        )

    @property
    def _document(self) -> str:
        """Metadata and changes as one document, for a search."""
        columns = (
            f"to_jsonb({self.column(each)})" for each in ("metadata", "changes") if each in self._columns
        )
        return f"jsonb_build_array({', '.join(columns)})"

    @property
    def time(self) -> str:
        """The time of the event; without a column for it, the time of recording."""
        for name in ("occurred_at", "recorded_at"):
            if name in self._columns:
                return self.column(name)
        raise SettingsError(
            "audit.columns: neither occurred_at nor recorded_at is mapped, so events have no order",
            hint="Map occurred_at to the column with the time.",
        )

    @property
    def recorded(self) -> str:
        """The time of recording; without a column for it, the time of the event."""
        return self.column("recorded_at") if "recorded_at" in self._columns else self.time

    @property
    def tie(self) -> str:
        """Orders events of the same time: by id; rows from before usersync by their position in the table."""
        return f'coalesce({self.column("id")}::text, stored.ctid::text) collate "C"'

    def fields(self) -> str:
        """The list of all fields for SELECT, under their names, in types that every driver reads."""
        return ", ".join(f"{self._readable(name)} as {name}" for name in FIELDS) + f", {self.tie} as tie"

    def _in_utc(self, name: str, time: str) -> str:
        """Without a zone: drivers cannot read the last hours of year 9999 in a zone ahead of UTC."""
        is_time = (self._columns[name].type or FIELDS[name]) in _TIMES
        return f"({time} at time zone 'UTC')" if is_time else time

    def _readable(self, name: str) -> str:
        if name == "occurred_at":
            return self._in_utc("occurred_at" if name in self._columns else "recorded_at", self.time)
        if name == "recorded_at" and name in self._columns:
            return self._in_utc(name, self.column(name))
        if name in {"changes", "metadata"}:
            return self._document_of(name)
        column = self._columns.get(name)
        if name == "ip" and column is not None and column.type is None:
            return f"host({self.column(name)})"
        if self.is_own and name in _MOVED:
            return f"coalesce({self.column(name)}, {self.column('metadata')} ->> {literal(name)})"
        return f"{self.column(name)}::text"


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
