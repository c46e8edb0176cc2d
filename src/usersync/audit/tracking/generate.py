"""The functions and triggers that record the changes of one table, as SQL.

The columns, their types and the key are written into the function when a table is tracked. Reading the
catalog at run time would take several times as long as recording the change.

JSON is built as text, and parsed as ``jsonb`` once a row. This is a third faster than ``jsonb_build_object``,
and leaves out unchanged columns without a second pass.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from textwrap import dedent
from typing import TYPE_CHECKING, Literal

from usersync.audit.event.entity import table_label
from usersync.audit.tracking.columns import (
    TEXT_LIMIT,
    TrackedColumn,
    cut,
    key_text,
    recorded,
    sha256,
    shortened,
)
from usersync.config.audit_rules import value_of
from usersync.config.mapping import TableName, quote
from usersync.sql.audit_expressions import (
    ID_PREFIX,
    audit_column_list,
    audit_log,
    audit_value_list,
    reader_rules,
)
from usersync.sql.expressions import literal
from usersync.sql.render import COLUMN_FORM, PINNED_SETTINGS, UnknownPlaceholderError, read_sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from usersync.config.audit_columns import AuditColumns
    from usersync.config.settings import Settings

Operation = Literal["insert", "update", "delete", "truncate"]

OPERATIONS: tuple[Operation, ...] = ("insert", "update", "delete", "truncate")

FUNCTION_PREFIX = "handle_changes_"

_PAST = {"insert": "inserted", "update": "updated", "delete": "deleted", "truncate": "truncated"}
_PLACEHOLDER = re.compile(r""""@(?P<name>[a-z_]+)"|'@(?P<value>[a-z_]+)'""")
_COMMENT_MIDDLE = "; made by usersync audit track. "
_COMMENT_PREFIX = "usersync: records the changes of "

#: A function has at most a hundred arguments.
_CHUNK = 90


@dataclass(frozen=True)
class Tracking:
    """What is recorded of a table. Without a key, a hash of all recorded columns identifies a row."""

    table: TableName
    columns: tuple[TrackedColumn, ...]
    key: tuple[str, ...]
    #: The name of its functions without the operation.
    stem: str
    #: The options that it was made from, stored in the functions' comments.
    made_from: Mapping[str, object]
    #: The columns with their types, see ``COLUMN_FORM``. The functions compare them with those of the table.
    form: str
    #: Whether only ``columns`` are recorded, and no column that is added later.
    closed: bool = False
    #: Columns that are not recorded.
    exclude: tuple[str, ...] = ()
    #: Columns whose values are recorded, although their names look like secrets.
    reveal: tuple[str, ...] = ()
    partitioned: bool = False


@dataclass(frozen=True)
class TrackingPart:
    """One operation of a tracked table: a function and its trigger."""

    operation: Operation
    function: str
    trigger: str
    function_sql: str
    trigger_sql: str

    @property
    def body(self) -> str:
        """The function's body, as in the catalog."""
        return self.function_sql.split("$usersync$")[1]

    @property
    def config(self) -> list[str]:
        """The function's own settings, as in the catalog."""
        head = self.function_sql.split("$usersync$")[0]
        found = re.findall(r"^set (\w+) = '?(.+?)'?$", head, re.MULTILINE)
        return [f"{name}={value}" for name, value in found]


def function_stem(table: TableName, number: int = 0) -> str:
    """The name of this table's functions without the operation. ``number``: if another table has the name.

    Always in ASCII and without quotes; the hash distinguishes tables whose names become equal.
    """
    told = hashlib.sha256(f"{table.quoted}{number or ''}".encode()).hexdigest()[:10]
    plain = re.sub(r"[^a-z0-9]+", "_", f"{table.schema}_{table.name}".lower().removeprefix("public_")).strip(
        "_"
    )
    return f"{FUNCTION_PREFIX}{plain[:27]}_{told}"


def is_of_tracked_table(signature: str) -> bool:
    """Whether a function in the database belongs to a tracked table."""
    return signature.startswith(f"usersync.{FUNCTION_PREFIX}")


def entity_type(table: TableName) -> str:
    """The table's name in events, with the schema unless that is ``public``."""
    return table_label(table.schema, table.name)


def read_comment(comment: str | None) -> dict[str, object] | None:
    """The options that a tracking function was made from. None if it is the comment of another function."""
    if comment is None or not comment.startswith(_COMMENT_PREFIX):
        return None
    try:
        # The table's name comes first and may contain a brace.
        found = json.loads(comment.rpartition(_COMMENT_MIDDLE)[2])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def render_tracking(settings: Settings, tracking: Tracking) -> tuple[TrackingPart, ...]:
    """The functions and triggers of a table, one of each for each operation."""
    return tuple(_Part(settings, tracking, operation).render() for operation in OPERATIONS)


def render_inspection(settings: Settings, tables: Iterable[TableName]) -> str:
    """A query for the tables and usersync's triggers on them: one row for each table, in order."""
    return _fill(
        read_sql("tracking/inspect.sql"),
        {},
        {
            "audit_log": audit_log(settings),
            "column_form": COLUMN_FORM,
            "tracked_tables": literal(_text_array(table.quoted for table in tables)),
        },
    )


def render_session_context(audit: AuditColumns) -> str:
    """The statements that read the actor, the tenant and the request from the session.

    They are those of ``usersync.user_event_context()``: to call the function would take longer.
    """
    values = {"tenant_claim": reader_rules(audit)["tenant_claim"]}
    function = read_sql("functions/user_event_context.sql")
    statements = function.partition("\nbegin\n")[2].partition("\nend;\n$usersync$")[0]
    return _fill(dedent(statements), {}, values).strip()


def _text_array(names: Iterable[str]) -> str:
    """A text array in PostgreSQL's syntax."""
    quoted = (name.replace("\\", "\\\\").replace('"', '\\"') for name in names)
    return "{" + ",".join(f'"{name}"' for name in quoted) + "}"


def render_privileges(parts: Iterable[TrackingPart]) -> str:
    """Revokes EXECUTE from all roles. The triggers do not need it."""
    functions = ", ".join(literal(part.function) for part in parts)
    return _fill(read_sql("tracking/revoke_execute.sql"), {}, {"functions": functions})


def _fill(text: str, names: Mapping[str, str], values: Mapping[str, str]) -> str:
    def filled(match: re.Match[str]) -> str:
        found = names.get(match["name"]) if match["name"] else values.get(match["value"])
        if found is None:
            raise UnknownPlaceholderError(match[0])
        return found

    return _PLACEHOLDER.sub(filled, text)


class _Part:
    """Renders one operation."""

    def __init__(self, settings: Settings, tracking: Tracking, operation: Operation) -> None:
        self._settings = settings
        self._tracking = tracking
        self._operation = operation
        # Columns are renamed to c1, c2, …, so that their names cannot collide with usersync's.
        self._places = {column.name: place for place, column in enumerate(tracking.columns, start=1)}
        self._key = [column for name in tracking.key for column in tracking.columns if column.name == name]

    def render(self) -> TrackingPart:
        tracking, operation = self._tracking, self._operation
        function, trigger = f"{tracking.stem}_{operation}", trigger_name(operation)
        template = self._settings.key_type.rewrite(read_sql("tracking/function.sql"))
        function_sql = _fill(template, self._names(), self._values())
        referencing = {
            "insert": "referencing new table as new_rows\n",
            "update": "referencing old table as old_rows new table as new_rows\n",
            "delete": "referencing old table as old_rows\n",
            "truncate": "",
        }[operation]
        trigger_sql = (
            f"create or replace trigger {trigger}\nafter {operation} on {tracking.table.quoted}\n"
            f"{referencing}for each statement execute function usersync.{function}();\n"
        )
        return TrackingPart(operation, function, trigger, function_sql, trigger_sql)

    def _names(self) -> dict[str, str]:
        settings = self._settings
        return {
            "function": f"usersync.{self._tracking.stem}_{self._operation}()",
            "pinned": self._pinned_settings(),
            "users_table": settings.users_table.quoted,
            "key": quote(settings.key),
            "key_type": settings.key_type.sql,
            "audit_table": settings.audit_table.quoted,
            "audit_columns": audit_column_list(settings.audit),
            "changed_rows": _CHANGED_ROWS[self._operation],
            "one_row": self._one_row(),
            "known_events": self._events(self._known_changes()),
            "events_by_name": self._events(self._changes_by_name()),
        }

    def _pinned_settings(self) -> str:
        """Only the settings on which a recorded value depends: each takes time in every call."""
        path, zone, *_ = PINNED_SETTINGS.splitlines()
        needed = {column.formatting for column in self._tracking.columns}
        # Without a key, a row is identified by the text of all columns.
        if "all" in needed or not self._key:
            return PINNED_SETTINGS
        return "\n".join([path, zone] if "zone" in needed else [path])

    def _values(self) -> dict[str, str]:
        table = str(self._tracking.table)
        made_from = json.dumps(self._tracking.made_from, sort_keys=True, ensure_ascii=False)
        return {
            "session_context": render_session_context(self._settings.audit),
            "lock_timeout": literal(f"{self._settings.lock_timeout_ms}ms"),
            "audit_values": audit_value_list(self._settings.audit),
            "values_of_one_row": audit_value_list(self._settings.audit, self._constants()),
            "table": literal(table),
            "comment": literal(f"{_COMMENT_PREFIX}{table}{_COMMENT_MIDDLE}{made_from}"),
            "id_prefix": ID_PREFIX.format(occurred_at="event.occurred_at"),
            "id": _ID,
            "rows_pair": self._rows_pair(),
            "is_altered": self._is_altered(),
        } | self._of_one_row()

    def _is_altered(self) -> str:
        """Whether the table has other columns than those for which the functions are made."""
        if self._operation == "truncate":
            return "false"
        tracking = self._tracking
        names = _array(column.name for column in tracking.columns) if tracking.closed else "null::text[]"
        table = f"{literal(tracking.table.quoted)}::regclass"
        columns = f"usersync.table_columns({table}, {names})"
        return f"tg_relid <> {table} or {columns} is distinct from {literal(tracking.form)}"

    def _constants(self) -> dict[str, str]:
        """The fields that are equal in all events of this operation."""
        kind = entity_type(self._tracking.table)
        action = f"{kind}.{_PAST[self._operation]}"
        return {
            "recorded_at": "now()",
            "action": literal(action),
            "outcome": "'succeeded'",
            "entity_type": literal(kind),
            "source": "'trigger'",
            "db_role": "session_user::text",
            "severity": f"{literal(value_of(self._settings.audit.severity, action))}::text",
        }

    def _one_row(self) -> str:
        if self._moves_rows:
            return "old_rows left join new_rows on true"
        return (
            "old_rows cross join new_rows" if self._operation == "update" else _CHANGED_ROWS[self._operation]
        )

    @property
    def _moves_rows(self) -> bool:
        """Whether an UPDATE may move a row to another partition. A trigger may prevent that."""
        return self._operation == "update" and self._tracking.partitioned

    def _of_one_row(self) -> dict[str, str]:
        """The expressions for a single row, outside of a query: PL/pgSQL keeps them for the next row."""
        if self._operation == "truncate":
            names = ("entity_id", "previous_entity_id", "pieces")
            return dict.fromkeys(names, "null") | {
                "row": "null as nothing",
                "is_bulk": "false",
                "is_unchanged": "false",
            }
        old, new = "event.changed_row.o", "event.changed_row.n"
        updates = self._operation == "update"
        side = old if self._operation == "delete" else new
        rows = {"insert": "n", "delete": "o"}.get(self._operation, "on")
        columns = [
            f"{_ROWS[row]}.{quote(name)} as {row}{n}" for row in rows for name, n in self._places.items()
        ]
        fits = len(columns) < _MAX_TARGETS
        previous = f"case when {self._key_changed(old, new)} then {self._identity(old)} end"
        return {
            "row": _comma(columns) if fits else "null as nothing",
            "is_bulk": self._is_bulk() if fits else "true",
            "is_unchanged": "pieces = ''" if updates else "false",
            "entity_id": self._identity(side) if fits else "null",
            "previous_entity_id": previous if updates and fits else "null",
            "pieces": _joined(self._differences(old, new) if updates else self._pieces(side))
            if fits
            else "null",
        }

    def _is_bulk(self) -> str:
        """Whether more than one row has changed; null if not."""
        if self._moves_rows:
            counts = (
                f"(select count(*) from (select from {rows} limit 2) as few) <> 1"
                for rows in ("old_rows", "new_rows")
            )
            return " or ".join(counts)
        return f"(select true from {_CHANGED_ROWS[self._operation]} offset 1 limit 1)"

    def _rows_pair(self) -> str:
        if self._moves_rows:
            return "((select count(*) from old_rows) = (select count(*) from new_rows))"
        return "true"

    def _events(self, changed: str) -> str:
        metadata = "event.metadata"
        if self._operation == "update":
            metadata += (
                " || case when changed.previous_entity_id is null then '{}' else "
                "jsonb_build_object('previous_entity_id', changed.previous_entity_id) end"
            )
        values = {"id": _ID, "metadata": metadata} | self._constants()
        return _fill(read_sql("tracking/events.sql"), {"changed": changed}, values).strip()

    def _known_changes(self) -> str:
        if self._operation == "truncate":
            return _NOTHING_KNOWN
        if self._operation == "update":
            return self._compared()
        side = "n" if self._operation == "insert" else "o"
        return (
            f"(select {self._identity(f'{side}.c')} as entity_id, "
            f"('{{' || {_joined(self._pieces(f'{side}.c'))} || '}}')::jsonb as changes\n"
            f"from {self._side(side)}) as changed"
        )

    def _compared(self) -> str:
        """Old and new rows are paired by their position, which the server keeps equal.

        Not by key: it may have changed, may be missing, and may occur twice if a cascade changes a row more
        than once. A full join, because only that cannot be a nested loop. A plan that was made for a
        statement with two changed rows is kept for one with a million.
        """
        return (
            "(select compared.entity_id, compared.previous_entity_id, "
            "('{' || compared.pieces || '}')::jsonb as changes from (\n"
            f"select {self._identity('n.c')} as entity_id,\n"
            f"case when {self._key_changed('o.c', 'n.c')} then {self._identity('o.c')} end "
            "as previous_entity_id,\n"
            f"{_joined(self._differences('o.c', 'n.c'))} as pieces\n"
            f"from {self._side('o')} full join {self._side('n')} on n.position = o.position\n"
            ") as compared where compared.pieces <> '') as changed"
        )

    def _side(self, side: str) -> str:
        columns = [f"{_ROWS[side]}.{quote(name)} as c{place}" for name, place in self._places.items()]
        if self._operation == "update":
            columns.insert(0, "row_number() over () as position")
        return f"(select {_comma(columns)} from {_ROWS[side]}) as {side}"

    def _pieces(self, side: str) -> list[str]:
        """The text of each column of an inserted or deleted row. Null values are left out."""
        before, after = ("[", ",null]") if self._operation == "delete" else ("[null,", "]")
        return [
            f"{literal(_json_key(column) + before)} || to_json({self._recorded(column, side)})::text || "
            f"{literal(after)}"
            for column in self._tracking.columns
        ]

    def _differences(self, old: str, new: str) -> list[str]:
        return [
            f"case when {self._differs(column, old, new)} then {literal(_json_key(column))} || "
            f"json_build_array({self._recorded(column, old)}, {self._recorded(column, new)})::text end"
            for column in self._tracking.columns
        ]

    def _value(self, column: TrackedColumn, side: str) -> str:
        return f"{side}{self._places[column.name]}"

    def _recorded(self, column: TrackedColumn, side: str) -> str:
        return recorded(column, self._value(column, side))

    def _differs(self, column: TrackedColumn, old: str, new: str) -> str:
        before, after = self._value(column, old), self._value(column, new)
        if column.exact:
            return f"{before} is distinct from {after}"
        # Compares the stored bytes: this needs no equality operator (json, xml and point have none), finds
        # every difference, and calls no code of the application.
        return f"record_image_ne(row({before}), row({after}))"

    def _key_changed(self, old: str, new: str) -> str:
        return " or ".join(self._differs(column, old, new) for column in self._key) or "true"

    def _identity(self, side: str) -> str:
        if not self._key:
            whole = [self._value(column, side) for column in self._tracking.columns if not column.secret]
            return f"'row:' || {sha256(f'concat(row({_comma(whole)}))')}"
        parts = [(column, self._value(column, side)) for column in self._key]
        if len(parts) == 1:
            text = key_text(*parts[0])
            return text if self._key[0].kind in _SHORT_KINDS else shortened(text)
        array = [value if column.kind == "number" else key_text(column, value) for column, value in parts]
        return shortened(f"jsonb_build_array({_comma(array)})::text")

    def _changes_by_name(self) -> str:
        if self._operation == "truncate":
            return _NOTHING_KNOWN
        names = {"old_bodies": _NO_ROWS, "new_bodies": _NO_ROWS}
        for side, without in (("old", "insert"), ("new", "delete")):
            if self._operation != without:
                values = {
                    "rows_pair": self._rows_pair(),
                    "identity": self._identity_by_name(),
                    "key_columns": _array(self._tracking.key),
                }
                bodies = _fill(read_sql("tracking/bodies.sql"), {"rows": f"{side}_rows"}, values)
                names[f"{side}_bodies"] = bodies.strip()
        values = {
            "old_cut": cut("pair.old_value::text"),
            "new_cut": cut("pair.new_value::text"),
            "text_limit": str(TEXT_LIMIT),
            "is_secret": self._is_secret_name(),
            "is_tracked": self._is_tracked_name(),
            "records_unchanged": literal(self._operation != "update"),
        }
        return _fill(read_sql("tracking/changes_by_name.sql"), names, values).strip()

    def _is_secret_name(self) -> str:
        """Whether the value of a column ``name`` is redacted. A flag is no secret."""
        tracking = self._tracking
        secrets = _array(column.name for column in tracking.columns if column.secret)
        known = _array([*(column.name for column in tracking.columns), *tracking.reveal])
        return (
            f"name = any({secrets}) or (name <> all({known}) and usersync.may_be_secret(name) "
            "and 'boolean' not in (coalesce(jsonb_typeof(n.body -> name), ''), "
            "coalesce(jsonb_typeof(o.body -> name), '')))"
        )

    def _is_tracked_name(self) -> str:
        tracking = self._tracking
        if tracking.closed:
            return f"name = any({_array(column.name for column in tracking.columns)})"
        return f"name <> all({_array(tracking.exclude)})"

    def _identity_by_name(self) -> str:
        if not self._key:
            return f"'row:' || {sha256('body::text')}"
        texts = [f"(body ->> key[{place}])" for place, _ in enumerate(self._key, start=1)]
        if len(texts) == 1:
            return shortened(sha256(texts[0]) if self._key[0].secret else texts[0])
        parts = [
            sha256(text) if column.secret else f"body -> key[{place}]"
            for place, (column, text) in enumerate(zip(self._key, texts, strict=True), start=1)
        ]
        return shortened(f"jsonb_build_array({_comma(parts)})::text")


_SHORT_KINDS = frozenset(("number", "plain", "instant"))
# Not uuidv7(): a dump of PostgreSQL 18 that is restored into 17 must still record. Not gen_random_uuid(): a
# server built without OpenSSL opens a device for each call, which takes ten times as long. An id has to be
# unique, not secret: its first 48 bits are the time, and the key of the log includes the time of the event.
_ID = (
    "overlay(overlay(md5(concat((random() * 4e15)::bigint, pg_backend_pid())) "
    "placing event.id_prefix from 1 for 13) "
    "placing '8' from 19)::uuid"
)

_ROWS = {"o": "old_rows", "n": "new_rows"}
#: For an UPDATE the old rows: a trigger may remove a row that moves to another partition.
_CHANGED_ROWS = {
    "insert": "new_rows",
    "update": "old_rows",
    "delete": "old_rows",
    "truncate": "(values (true)) as truncated (yes)",
}
#: The maximum number of columns of a row in memory.
_MAX_TARGETS = 1664

_NOTHING_KNOWN = "(select null::text as entity_id, null::jsonb as changes) as changed"
_NO_ROWS = "(select null::jsonb as body, null::text as identity, null::text as place where false)"


def trigger_name(operation: Operation) -> str:
    """The trigger's name. Trigger names are unique per table."""
    return f"usersync_{_PAST[operation]}"


def _json_key(column: TrackedColumn) -> str:
    return json.dumps(column.name, ensure_ascii=False) + ":"


def _joined(pieces: list[str]) -> str:
    if len(pieces) <= _CHUNK:
        return f"concat_ws(',', {_comma(pieces)})"
    chunks = [pieces[start : start + _CHUNK] for start in range(0, len(pieces), _CHUNK)]
    return _joined([f"nullif({_joined(chunk)}, '')" for chunk in chunks])


def _array(names: Iterable[str]) -> str:
    return f"array[{_comma(literal(name) for name in names)}]::text[]"


def _comma(parts: Iterable[str]) -> str:
    return ", ".join(parts)
