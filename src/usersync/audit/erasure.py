"""Erases the personal data of a deleted user: row, failures, copy, and events. The events themselves stay.

Not part of ``public.usersync``: the log is append-only for every role with a service key, and this changes
its content. It needs a connection as the owner.

It searches events for the user's id anywhere, and for values that contain one of the user's addresses: those
in the row, those in recorded changes of the row, and those that the caller passes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from usersync.audit.holds import is_held
from usersync.audit.reading import installed_settings
from usersync.audit.tracking.columns import shortened
from usersync.audit.tracking.generate import entity_type
from usersync.config.mapping import quote
from usersync.config.personal_data import is_address, personal_values, words_of
from usersync.config.settings import SOURCE_COPY
from usersync.core.audit_log import has_log
from usersync.core.paging import halved
from usersync.core.users import missing_columns
from usersync.errors import (
    ArgumentValueError,
    ColumnMissingError,
    ConflictError,
    DatabaseError,
    UserNotFoundError,
    UserStillExistsError,
)
from usersync.models import Erasure
from usersync.sql.expressions import literal
from usersync.sql.render import Renderer
from usersync.transports.steps import Row, Steps, anything, in_transaction, operate, query, query_row

if TYPE_CHECKING:
    from uuid import UUID

    from usersync.config.mapping import TableName
    from usersync.config.settings import Settings

#: How many blocks of the log one statement reads: 8 MB.
PAGE_BLOCKS = 1_024
REJECTS_BATCH = 500

#: How many changes of the user's row are searched for addresses.
MOST_CHANGES = 10_000

#: Shorter values would match events of many users.
SHORTEST_VALUE = 5

#: Called with the number of blocks of the log read so far, and the total.
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class PersonalKeys:
    """The keys to erase: in all events of the user, and in events whose entity is the user."""

    common: list[str]
    own: list[str]
    #: Values that are erased wherever they occur: the user's e-mail addresses and phone numbers.
    values: tuple[str, ...] = ()


def personal_keys_of(settings: Settings) -> PersonalKeys:
    """The keys from the settings, plus the personal columns for events whose entity is the user."""
    columns = [column for column in settings.columns if column.personal]
    own = [column.name for column in columns]
    own += [source.path[-1] for column in columns for source in column.sources if source.path]
    personal = settings.audit.personal
    return PersonalKeys(words_of(personal), words_of([*personal, *own]))


def _named(table: TableName | str) -> str:
    """A quoted name for a statement with parameters: percent signs are doubled."""
    return (quote(table) if isinstance(table, str) else table.quoted).replace("%", "%%")


def _is_row(settings: Settings) -> str:
    """An SQL condition for the user's row in the users table."""
    return settings.key_type.matches_bound(quote(settings.key))


def check_deleted(settings: Settings, user_id: UUID) -> Steps[None]:
    """Raise ``UserStillExistsError`` if the auth user exists and is not soft-deleted."""
    found = yield from query_row(
        f"select exists (select from {_named(settings.source_table)} "
        'where "id" = %(id)s and "deleted_at" is null) as alive',
        id=user_id,
    )
    if found["alive"]:
        raise UserStillExistsError(
            f"user {user_id} still exists in {settings.source_table}, and usersync would copy the data again",
            hint="Delete the user there first (dashboard or admin API; a soft delete is enough), then erase.",
        )


def erase(
    user_id: UUID,
    *,
    dry_run: bool = False,
    values: Sequence[str] = (),
    spooled: int = 0,
    by: str | None = None,
    on_progress: OnProgress = lambda *_: None,
) -> Steps[Erasure]:
    """Erase the personal data of a deleted user. With ``dry_run``, only report how much there is.

    Each step commits by itself and can be repeated. The connection must not be in a transaction. ``values``
    are more addresses of the person. ``spooled`` is the number of events that were already erased in this
    machine's spools; ``by`` is the actor for the audit log, by default the session's role.

    Raises ``SettingsError`` for a value that is too short, ``UserStillExistsError``, ``ColumnMissingError``
    if personal data may be in a renamed column, and ``UserNotFoundError`` if there is no data about the user
    anywhere.
    """
    settings = yield from installed_settings()
    logged = yield from has_log(settings)
    yield from check_deleted(settings, user_id)
    if missing := (yield from missing_columns(settings)):
        raise ColumnMissingError(settings.users_table, missing)
    words = yield from _with_addresses(settings, user_id, personal_keys_of(settings), values, logged=logged)
    known = yield from _is_known(settings, user_id)
    found = Erasure(user_id, dry_run, spooled=spooled, addresses=len(words.values), has_log=logged)
    # Erase the row first: if the table is tracked, this records one more event with the old values.
    found = replace(found, row=(yield from _erase_row(settings, user_id, dry_run=dry_run)))
    is_named, erased, held = False, 0, 0
    if logged:
        is_named, erased, held = yield from _erase_events(
            settings, user_id, words, dry_run=dry_run, on_progress=on_progress
        )
    found = replace(
        found,
        events=erased,
        held=held,
        rejects=(yield from _erase_rejects(user_id, words, dry_run=dry_run)),
        copied=(yield from _erase_copy(settings, user_id, dry_run=dry_run)),
        failures=(yield from _erase_failures(user_id, words, dry_run=dry_run)),
    )
    if not (known or found.anything or is_named):
        raise UserNotFoundError(
            f"there is no data about user {user_id}", hint="Check the id and the project."
        )
    if dry_run:
        return found
    if settings.deletes_rows:
        # After the events: it removes the link from events that are recognized only by it.
        yield from operate("remove_user", returns=anything, user_id=user_id)
    return replace(found, recorded=logged and (yield from _record(settings, found, by)))


def _with_addresses(
    settings: Settings, user_id: UUID, words: PersonalKeys, named: Sequence[str], *, logged: bool
) -> Steps[PersonalKeys]:
    """Add the known addresses of the user."""
    for value in named:
        if len(value.strip()) < SHORTEST_VALUE:
            raise ArgumentValueError(
                f"a value of fewer than {SHORTEST_VALUE} characters occurs in too many events",
                hint="Pass a complete e-mail address or phone number.",
            )
    found = {value.strip() for value in named}
    found |= yield from _addresses_in_row(settings, user_id)
    if logged:
        found |= yield from _addresses_in_log(settings, user_id, words)
    return replace(words, values=tuple(sorted(found)))


def _addresses_in_row(settings: Settings, user_id: UUID) -> Steps[set[str]]:
    columns = [_named(column.name) for column in settings.columns if column.personal]
    if not columns:
        return set()
    rows = yield from query(
        f"select {', '.join(f'{column}::text as value_{n}' for n, column in enumerate(columns))} "
        f"from {_named(settings.users_table)} where {_is_row(settings)}",
        id=user_id,
    )
    return {value for row in rows for value in row.values() if is_address(value)}


def _addresses_in_log(settings: Settings, user_id: UUID, words: PersonalKeys) -> Steps[set[str]]:
    """Addresses in recorded changes of the user's row: an anonymized row has none any more."""
    fields = settings.audit.effective()
    if not {"changes", "entity_type", "entity_id"} <= set(fields):
        return set()
    kind, name, changes = (_named(fields[each].name) for each in ("entity_type", "entity_id", "changes"))
    rows = yield from query(
        f"select {changes}::jsonb as changes from {_named(settings.audit_table)} "
        f"where {kind} in (%(kind)s, 'user') and {name}::text = %(id)s and {changes} is not null "
        f"limit {MOST_CHANGES}",
        kind=entity_type(settings.users_table),
        id=str(user_id),
    )
    found = (value for row in rows for value in personal_values(row["changes"], words.own))
    return {value for value in found if is_address(value)}


def _is_known(settings: Settings, user_id: UUID) -> Steps[bool]:
    row = yield from query_row(
        f'select exists (select from {_named(settings.source_table)} where "id" = %(id)s) '
        f"or exists (select from {_named(settings.users_table)} where {_is_row(settings)}) as known",
        id=user_id,
    )
    return bool(row["known"])


def _erase_row(settings: Settings, user_id: UUID, *, dry_run: bool) -> Steps[bool]:
    """Anonymize the row, whatever the deletion has left in it."""
    renderer = Renderer(replace(settings, on_delete="anonymize", on_soft_delete="anonymize"))
    condition = renderer.render(
        """where target."@key" = %(id)s::"@key_type" and ('@is_removed') is not true and not exists ("""
        'select from "@source_table" as source '
        'where source."id" = target."@key"::uuid and source."deleted_at" is null)'
    )
    if dry_run:
        statement = renderer.render('select 1 from "@users_table" as target ')
    else:
        statement = renderer.render(
            'update "@users_table" as target set ("@removed_columns") = row(\'@removed_values\') '
        )
    returning = "" if dry_run else " returning 1"
    return bool((yield from query(_bound(f"{statement}{condition}{returning}"), id=user_id)))


def _erase_copy(settings: Settings, user_id: UUID, *, dry_run: bool) -> Steps[bool]:
    if not settings.copies_source:
        return False
    told = "(email, phone, raw_app_meta_data, raw_user_meta_data)"
    nothing = "(null, null, null, null)"
    condition = f"where id = %(id)s and deleted_at is not null and row{told} is distinct from row{nothing}"
    if dry_run:
        rows = yield from query(f"select 1 from {SOURCE_COPY.quoted} {condition}", id=user_id)
    else:
        rows = yield from query(
            f"update {SOURCE_COPY.quoted} set {told} = {nothing} {condition} returning 1",
            id=user_id,
        )
    return bool(rows)


def _erase_failures(user_id: UUID, words: PersonalKeys, *, dry_run: bool) -> Steps[int]:
    """Erase the messages of sync failures, which may quote any value, and personal data in events that they
    keep.
    """
    message = literal("[erased]")
    event = (
        "usersync.erase_values(usersync.erase_keys(event - 'ip' - 'user_agent', %(words)s::text[]), "
        "%(values)s::text[])"
    )
    condition = f"where user_id = %(id)s and (message <> {message} or event is distinct from {event})"
    values = {"id": user_id, "words": words.own, "values": list(words.values)}
    if dry_run:
        rows = yield from query(f"select 1 from usersync.sync_failures {condition}", **values)
    else:
        rows = yield from query(
            f"update usersync.sync_failures set message = {message}, event = {event} {condition} returning 1",
            **values,
        )
    return len(rows)


def _erase_rejects(user_id: UUID, words: PersonalKeys, *, dry_run: bool) -> Steps[int]:
    """Erase in rejected events that contain the user's id anywhere, whatever their structure."""
    chosen = (
        "select reject_id, usersync.erase_values(case when strpos(lower(event::text), %(id)s) = 0 then event "
        "else usersync.erase_keys(case jsonb_typeof(event) when 'object' "
        "then event - 'ip' - 'user_agent' else event end, %(words)s) end, %(values)s) as erased "
        "from usersync.audit_rejects "
        "where strpos(lower(event::text), %(id)s) > 0 "
        "or usersync.erase_values(event, %(values)s) is distinct from event"
    )
    changed = (
        f"from usersync.audit_rejects as rejected join ({chosen}) as given using (reject_id) "
        "where given.erased is distinct from rejected.event"
    )
    values = {"id": str(user_id), "words": words.own, "values": list(words.values)}
    if dry_run:
        row = yield from query_row(
            f"select count(*) as rows {changed}",
            **values,
        )
        return int(row["rows"])
    total = 0
    while True:
        rows = yield from query(
            "update usersync.audit_rejects as target set event = picked.erased "
            f"from (select reject_id, given.erased {changed} limit {REJECTS_BATCH}) as picked "
            "where target.reject_id = picked.reject_id returning 1",
            **values,
        )
        total += len(rows)
        if len(rows) < REJECTS_BATCH:
            return total


def _erase_events(
    settings: Settings, user_id: UUID, words: PersonalKeys, *, dry_run: bool, on_progress: OnProgress
) -> Steps[tuple[bool, int, int]]:
    """Search the complete log page by page: no index covers all the ways in which an event may name a user.

    Returns whether any event names the user, how many had personal data, and how many a legal hold kept
    unchanged. An event that was changed moves in the table, and may be read again.
    """
    parts = yield from query(_PARTS, table=settings.audit_table.quoted)
    if not parts:
        raise ConflictError(
            f"{settings.audit_table} does not exist, or is not a table", hint="Run: usersync doctor"
        )
    row_ids = yield from _row_ids(settings, user_id, parts)
    before, is_named, erased, held = 0, False, 0, 0
    total = sum(part["blocks"] for part in parts)

    def noted(row: Row, done: int) -> None:
        nonlocal is_named, erased, held
        is_named, erased, held = is_named or row["is_named"], erased + row["erased"], held + row["held"]
        on_progress(before + done, max(total, before + row["blocks"]))

    for part in parts:
        yield from _read_through(
            part,
            _page_statement(settings, part, dry_run=dry_run),
            noted,
            id=str(user_id),
            common=words.common,
            own=words.own,
            values=list(words.values),
            kind=entity_type(settings.users_table),
            row_ids=row_ids,
        )
        before += part["blocks"]
    return is_named, erased, held


def _read_through(part: Row, statement: str, use: Callable[[Row, int], None], **values: Any) -> Steps[None]:
    """Run a statement on each page of a table. ``use`` is called with its result and the number of blocks
    done.
    """
    first, pages, last = 0, PAGE_BLOCKS, part["blocks"]
    while first < last:
        place = {"first": f"({first},0)", "last": f"({first + pages},0)", "part": part["name"]}
        try:
            row = yield from in_transaction(_page(statement, **values, **place))
        except DatabaseError as error:
            pages = yield from halved(error, pages)
            continue
        first, last = first + pages, row["blocks"]
        use(row, min(first, last))


def _row_ids(settings: Settings, user_id: UUID, parts: list[Row]) -> Steps[list[str]]:
    """The entity ids of the user's row, if the users table has a primary key other than the user's id.

    For a deleted row, the ids are in the events that recorded the complete row.
    """
    table = settings.users_table
    keys = yield from query(_PRIMARY_KEY, table=table.quoted)
    if not keys or keys[0]["name"] == settings.key:
        return []
    named = shortened(f"found.{_named(keys[0]['name'])}::text")
    rows = yield from query(
        f"select {named} as name from {_named(table)} as found where {_is_row(settings)}",
        id=user_id,
    )
    names = {row["name"] for row in rows}
    fields = settings.audit.effective()
    if {"changes", "entity_type", "entity_id"} <= set(fields):
        for part in parts:
            yield from _read_through(
                part,
                _row_ids_statement(settings, part),
                lambda row, _: names.update(row["names"]),
                id=str(user_id),
                kind=entity_type(table),
                key=settings.key,
            )
    return sorted(names)


_PRIMARY_KEY = """
    select attname::text as name
    from pg_index join pg_attribute on attrelid = indrelid and attnum = indkey[0]
    where indrelid = to_regclass(%(table)s) and indisprimary and indnkeyatts = 1
"""


def _row_ids_statement(settings: Settings, part: Row) -> str:
    fields = settings.audit.effective()
    kind, name = (quote(fields[each].name) for each in ("entity_type", "entity_id"))
    changed = f"{_document(settings.audit_table, 'changes', fields, part['types'])} -> %(key)s"
    return _bound(
        f"select coalesce(array_agg(distinct stored.{name}::text), '{{}}') as names, {_BLOCKS} "
        f"from {part['name']} as stored "
        "where stored.ctid >= %(first)s::text::tid and stored.ctid < %(last)s::text::tid "
        f"and stored.{kind}::text = %(kind)s and stored.{name} is not null "
        f"and %(id)s in ({changed} ->> 0, {changed} ->> 1)"
    )


def _page(statement: str, **values: Any) -> Steps[Row]:
    yield from query("select set_config('usersync.maintaining', 'audit', true)")
    # Without row security, rows that a policy hides would be skipped silently. Off, they raise an error.
    # Two statements: some drivers send only one at a time.
    yield from query("set local row_security = off")
    yield from query("set local search_path = pg_catalog")
    return (yield from query_row(statement, **values))


_UNSPACED = r"regexp_replace({}::text, '\s', '', 'g')"
_BLOCKS = "pg_relation_size(%(part)s::text::regclass) / current_setting('block_size')::bigint as blocks"

# The table itself, or its partitions, oldest first.
_PARTS = """
    select
        format('%%I.%%I', relnamespace::regnamespace::name, leaf.relname) as name,
        pg_relation_size(leaf.oid) / current_setting('block_size')::bigint as blocks,
        (
            select jsonb_object_agg(attname, format_type(atttypid, atttypmod)) from pg_attribute
            where attrelid = leaf.oid and attnum > 0 and not attisdropped
        ) as types
    from (
        select relid from pg_partition_tree(to_regclass(%(table)s)) where isleaf
        union
        select to_regclass(%(table)s)
    ) as tree (oid)
    join pg_class as leaf on leaf.oid = tree.oid
    where leaf.relkind = 'r'
    order by pg_get_expr(leaf.relpartbound, leaf.oid), leaf.oid
"""


def _page_statement(settings: Settings, part: Row, *, dry_run: bool) -> str:
    """A statement that erases in one page of a table and returns the counts."""
    fields, types = settings.audit.effective(), part["types"]
    at = {name: f"stored.{quote(column.name)}" for name, column in fields.items()}
    metadata = _document(settings.audit_table, "metadata", fields, types)
    whose, entity = _conditions(at, metadata)
    documents = {
        name: document
        for name in ("changes", "metadata")
        if (document := _document(settings.audit_table, name, fields, types))
    }
    held = is_held(_held_by(at, metadata))
    mentions, holds = _searched(list(documents.values()))
    words = f"case when {entity} then %(own)s::text[] else %(common)s::text[] end"
    sets = {
        name: f"usersync.erase_values(case when is_named then usersync.erase_keys({document}, {words}) "
        f"else {document} end, %(values)s::text[])"
        for name, document in documents.items()
    }
    gone = [name for name in ("ip", "user_agent") if name in fields]
    differs = [f"new_{name} is distinct from {document}" for name, document in documents.items()] + [
        f"(is_own and {at[name]} is not null)" for name in gone
    ]
    # json may contain a key twice; jsonb keeps only the last one.
    differs += [
        f"length({_UNSPACED.format(at[name])}) <> length({_UNSPACED.format(f'{at[name]}::jsonb')})"
        for name in sets
        if types[fields[name].name] == "json"
    ]
    # An event of another user that names this user has the other person's IP address, and keeps it.
    assigned = [
        f"{quote(fields[name].name)} = picked.new_{name}::text::{types[fields[name].name]}" for name in sets
    ] + [
        f"{quote(fields[name].name)} = case when not picked.is_own then log.{quote(fields[name].name)} end"
        for name in gone
    ]
    made = ", ".join(f"{value} as new_{name}" for name, value in sets.items())
    reads = (
        f"picked as materialized (select stored.ctid as place, {' or '.join(differs) or 'false'} as differs, "
        f"is_own, is_named, {held} as is_held{''.join(f', new_{name}' for name in sets)} "
        f"from {part['name']} as stored "
        f"cross join lateral (select coalesce({whose}, false) as is_own offset 0) as owned "
        f"cross join lateral (select is_own or {mentions} as is_named offset 0) as named "
        f"cross join lateral (select {made or '1'} offset 0) as made "
        "where stored.ctid >= %(first)s::text::tid and stored.ctid < %(last)s::text::tid "
        f"and (is_named or {holds}))"
    )
    if dry_run or not assigned:
        counts = (
            "coalesce(bool_or(is_named), false) as is_named, "
            "count(*) filter (where differs and not is_held) as erased, "
            "count(*) filter (where differs and is_held) as held"
        )
        statement = f"with {reads} select {counts}, {_BLOCKS} from picked"
    else:
        statement = (
            f"with {reads}, done as (update {part['name']} as log set {', '.join(assigned)} from picked "
            "where log.ctid = picked.place and picked.differs and not picked.is_held returning 1) "
            "select exists (select from picked where is_named) as is_named, "
            "(select count(*) from done) as erased, "
            f"(select count(*) from picked where differs and is_held) as held, {_BLOCKS}"
        )
    return _bound(statement)


def _held_by(at: dict[str, str], metadata: str | None) -> dict[str, str]:
    """The fields by which a legal hold names an event. Without a column, a field is in the metadata."""
    names = ("tenant_id", "entity_type", "entity_id")
    found = {name: f"({metadata} ->> {literal(name)})" for name in names if metadata}
    return found | {name: f"{at[name]}::text" for name in names if name in at}


def _searched(documents: list[str]) -> tuple[str, str]:
    """Two conditions: an event's documents contain the user's id, or one of the addresses."""
    if not documents:
        return "false", "false"
    text = " || ' ' || ".join(f"coalesce(lower({document}::text), '')" for document in documents)
    holds = " or ".join(
        f"usersync.erase_values({document}, %(values)s::text[]) is distinct from {document}"
        for document in documents
    )
    return f"strpos({text}, %(id)s) > 0", f"(cardinality(%(values)s::text[]) > 0 and ({holds}))"


def _conditions(at: dict[str, str], metadata: str | None) -> tuple[str, str]:
    """Conditions for the user's events: by link, actor, entity, or the id of a link that failed.

    The entity may be the user, or the user's row under its own key.
    """

    def value(name: str) -> str | None:
        if name in at:
            return f"{at[name]}::text"
        return f"{metadata} ->> {literal(name)}" if metadata else None

    entity = f"lower({value('entity_id')}) is not distinct from %(id)s" if value("entity_id") else "false"
    if value("entity_id") and value("entity_type"):
        row = f"{value('entity_type')} = %(kind)s and {value('entity_id')} = any(%(row_ids)s::text[])"
        entity = f"({entity} or coalesce({row}, false))"
    found = [f"lower({value(name)}) = %(id)s" for name in ("user_id", "actor_id") if value(name)]
    found.append(entity)
    if metadata:
        found.append(f"{metadata} ->> 'original_user_id' = %(id)s")
    return " or ".join(found), entity


def _document(table: TableName, name: str, fields: Any, types: dict[str, str]) -> str | None:
    """A JSON column as jsonb. Raises ``SettingsError`` for a column of another type."""
    if name not in fields:
        return None
    column = fields[name].name
    kind = types.get(column)
    if kind not in {"json", "jsonb"}:
        raise ConflictError(
            f"{name} of an event is stored in {table}, column {column}, of type {kind}: personal data can be "
            "erased only in json and jsonb",
            hint="Change the column's type, or erase the data in that table by hand.",
        )
    return f"stored.{quote(column)}::jsonb"


def _bound(statement: str) -> str:
    """Doubles every % that is not part of a parameter."""
    places = ("id", "first", "last", "common", "own", "values", "part", "kind", "row_ids", "key")
    statement = statement.replace("%", "%%")
    for name in places:
        statement = statement.replace(f"%%({name})s", f"%({name})s")
    return statement


def _record(settings: Settings, found: Erasure, by: str | None) -> Steps[bool]:
    """Record the erasure as an event: once, and again only if more data was erased."""
    if not found.anything and (yield from _was_recorded(settings, found.user_id)):
        return False
    actor_id = by or (yield from query_row("select session_user::text as name"))["name"]
    event = {
        "action": "user.erased",
        "actor_type": "system",
        "actor_id": actor_id,
        "entity_type": "user",
        "entity_id": str(found.user_id),
        "metadata": {"events": found.events, "row": found.row},
        "source": "sync",
    }
    recorded = yield from query_row(
        "select stored from usersync.record_own_events(%(events)s::jsonb)", events=json.dumps([event])
    )
    return bool(recorded["stored"])


def _was_recorded(settings: Settings, user_id: UUID) -> Steps[bool]:
    fields = settings.audit.effective()
    if not {"action", "entity_id"} <= set(fields):
        return False
    conditions = [
        f"{_named(fields['action'].name)} = 'user.erased'",
        f"{_named(fields['entity_id'].name)} = %(id)s",
    ]
    if "entity_type" in fields:
        conditions.append(f"{_named(fields['entity_type'].name)} = 'user'")
    rows = yield from query(
        f"select 1 from {_named(settings.audit_table)} where {' and '.join(conditions)} limit 1",
        id=str(user_id),
    )
    return bool(rows)
