"""SQL expressions that read an event from usersync's audit log or from an application's own.

Percent signs in names are doubled, because these texts are run with parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.config.audit_columns import FIELDS
from usersync.config.mapping import quote
from usersync.errors import SettingsError
from usersync.sql.expressions import literal

if TYPE_CHECKING:
    from usersync.config.settings import Settings

_ZONELESS = ("timestamp", "timestamp without time zone")
_TIMES = ("timestamptz", "timestamp with time zone", *_ZONELESS)


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

    def is_given(self, name: str) -> str:
        """Whether the field equals the parameter with its name."""
        sign = self._key_type.operator("=") if self._links_by_key(name) else "="
        return f"{self.column(name)} {_escaped(sign)} {self.parameter(name)}"

    def _links_by_key(self, name: str) -> bool:
        return name == "user_id" and self.is_own

    def parameter(self, name: str) -> str:
        """A parameter with the field's name, in the type of ``column()``."""
        column = self._columns.get(name)
        if self._links_by_key(name):
            return f"%({name})s::{_escaped(self._key_type.sql)}"
        return f"%({name})s::{(column.type or FIELDS[name]) if column else 'text'}"

    @property
    def unmapped(self) -> frozenset[str]:
        """The fields without a column, which are stored in the metadata."""
        return frozenset(FIELDS) - self._columns.keys()

    @property
    def document(self) -> str:
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
        column = self._columns.get(name)
        if name in {"changes", "metadata"}:
            if column is not None:
                return f"to_jsonb({self.column(name)})"
            return self.column(name).replace("->>", "->").replace("null::text", "null::jsonb")
        if name == "ip" and column is not None and column.type is None:
            return f"host({self.column(name)})"
        return f"{self.column(name)}::text"


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
