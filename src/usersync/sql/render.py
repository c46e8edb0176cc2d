"""Fills names and lists into the SQL files.

The files are valid SQL before and after. A placeholder includes its quotes: ``"@users_table"`` is in the
place of an identifier, ``'@lock_timeout'`` in the place of a literal. A placeholder without a value is an
error, and so is a value without a placeholder.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from usersync.config.mapping import quote
from usersync.config.redaction import secret_pattern
from usersync.sql.audit_expressions import (
    ID_PREFIX,
    audit_column_list,
    audit_key,
    audit_log,
    audit_user,
    audit_value_list,
    is_audit_id,
    is_audit_user,
    kept_event_fields,
    log_form,
    reader_rules,
    readers,
    severity_of,
)
from usersync.sql.audit_reading import SHARD, AuditReading
from usersync.sql.expressions import Fragments, literal, literals
from usersync.sql.row_rules import is_compared, is_expected, is_not_skipped, is_user_row, row_is_left_out
from usersync.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usersync.config.settings import Settings

_PLACEHOLDER = re.compile(r""""@(?P<name>[a-z_]+)"|'@(?P<value>[a-z_]+)'""")


#: How long a command waits for a table that another session has locked.
COMMAND_LOCK_TIMEOUT = "5s"

#: "usersync", as a key for pg_advisory_xact_lock. All installers take it, in each of their transactions.
LOCK_KEY = 0x7573_6572_7379_6E63


#: The text form of a value depends on these settings, and must not depend on the session's. A function that
#: converts values to text has ``"@pinned"`` at the end of its search path. The names are spelled as in the
#: catalog, which is compared with them.
PINNED_SETTINGS = """pg_temp
set TimeZone = 'UTC'
set DateStyle = 'ISO, MDY'
set IntervalStyle = 'postgres'
set extra_float_digits = 1
set bytea_output = 'hex'
set lc_monetary = 'C'"""


#: A column of pg_attribute with its type, as text. It is the same after a dump and restore.
COLUMN_FORM = (
    "concat_ws(' ', quote_ident(attname), "
    "(select typnamespace::regnamespace::text || '.' || quote_ident(typname) "
    "from pg_type where pg_type.oid = atttypid), "
    "(select quote_ident(collname) from pg_collation where pg_collation.oid = attcollation))"
)


class UnknownPlaceholderError(LookupError):
    """An SQL file has a placeholder without a value; a mistake in usersync itself."""


class UnusedPlaceholderError(LookupError):
    """A value has no placeholder in any SQL file; a mistake in usersync itself."""


class Renderer:
    """Renders SQL for one set of settings."""

    def __init__(self, settings: Settings, values: Mapping[str, str] | None = None) -> None:
        users, source = settings.users_table, settings.source_table
        fragments = Fragments(settings)
        self._key_type = settings.key_type
        self.settings = settings
        known = readers(settings.audit)
        reading = AuditReading(settings)
        self._used: set[str] = set()
        self._names = {
            "pinned": PINNED_SETTINGS,
            "users_table": users.quoted,
            "users_schema": quote(users.schema),
            "source_table": source.quoted,
            "audit_table": settings.audit_table.quoted,
            "audit_schema": quote(settings.audit_table.schema),
            "audit_columns": audit_column_list(settings.audit),
            "audit_key": audit_key(settings.audit),
            "audit_user": audit_user(settings.audit),
            "key_type": settings.key_type.sql,
        } | fragments.names()
        self._values = {
            "users_table": literal(users.quoted),
            "users_schema": literal(quote(users.schema)),
            "source_table": literal(source.quoted),
            "audit_table": literal(settings.audit_table.quoted),
            "audit_schema": literal(quote(settings.audit_table.schema)),
            "audit_log": audit_log(settings),
            "id_prefix": ID_PREFIX.format(occurred_at="recording.occurred_at"),
            "kept_event_fields": kept_event_fields(),
            "user_events_wanted": literal(settings.audit.user_events),
            "user_event_values": literal(settings.audit.user_event_values),
            "is_own_log": literal(settings.audit.is_own),
            "creates_audit_log": literal(settings.audit.enabled and settings.audit.is_own),
            "audit_values": audit_value_list(settings.audit),
            "audit_templates": literal(reading.templates()),
            "shard": SHARD.format(entity_type="entity_type", entity_id="entity_id", event_id="event_id"),
            "noted_id": reading.noted_id.replace("%%", "%"),
            "noted_text": reading.noted_text.replace("%%", "%"),
            "noted_time": reading.noted_time.replace("%%", "%"),
            "has_id": reading.has_id.replace("%%", "%"),
            "is_audit_id": is_audit_id(settings.audit),
            "is_audit_user": is_audit_user(settings),
            "types": literal(json.dumps([each.type for each in settings.columns if each.type])),
            "key": literal(settings.key),
            "on_delete": literal(settings.on_delete),
            "on_soft_delete": literal(settings.on_soft_delete),
            "lock_timeout": literal(f"{settings.lock_timeout_ms}ms"),
            "command_lock_timeout": literal(COMMAND_LOCK_TIMEOUT),
            "budget_ms": literal(str(settings.budget_ms)),
            "severity_of_action": severity_of(settings.audit, "given.action"),
            "severity_of_user_event": severity_of(settings.audit, "recording.action"),
            "severity_of_new_user": severity_of(settings.audit, "'user.created'::text"),
            "all_public_functions": literals([*_public_functions(), *(each.function for each in known)]),
            "public_functions": literals(
                [*_public_functions(), *(each.function for each in known if each.enabled)]
            ),
            "settings": _settings_json(settings),
            "column_form": COLUMN_FORM,
            "secret_pattern": literal(secret_pattern()),
            "is_expected": is_expected(settings, "source"),
            "is_user_row": is_user_row(settings),
            "row_is_left_out": row_is_left_out(settings),
            "is_compared": is_compared(settings),
            "expects_everybody": literal(is_expected(settings, "source") == "true"),
            "was_not_skipped": is_not_skipped(settings, "old_users"),
            "is_new_expected": is_expected(settings, "new"),
            "is_newly_expected": f"({is_expected(settings, 'new')}) and not ({is_expected(settings, 'old')})",
        }
        self._values |= fragments.values() | log_form() | reader_rules(settings.audit)
        self._values |= values or {}
        # A log that the settings do not name any more, once there is another one.
        self._values["is_former_log"] = self.render(
            "parent.oid is distinct from to_regclass('@audit_table') "
            "and ('@creates_audit_log' or '@audit_log' is not null)"
        )
        self._names["user_events"] = self.render(read_sql("user_events/events.sql")).strip()
        self._names["new_user_event"] = self.render(read_sql("user_events/new_event.sql")).strip()
        self._values["column_defaults"] = self.render(read_sql("statements/column_defaults.sql"))

    def render(self, text: str) -> str:
        """Fill in ``text``; raises ``UnknownPlaceholderError``."""
        return _PLACEHOLDER.sub(self._fill, self._key_type.rewrite(text))

    def _fill(self, match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        filled = self._names.get(name) if name else self._values.get(value)
        if filled is None:
            raise UnknownPlaceholderError(match[0])
        self._used.add(match[0])
        return filled

    def check_all_used(self) -> None:
        """Raise ``UnusedPlaceholderError`` if a value was never used."""
        offered = {f'"@{name}"' for name in self._names} | {f"'@{value}'" for value in self._values}
        if offered - self._used:
            raise UnusedPlaceholderError(", ".join(sorted(offered - self._used)))


def remembered(settings: Settings) -> dict[str, Any]:
    """The settings and the release that the database stores about its installation."""
    return settings.describe() | {
        "library_version": __version__,
        # jsonb has no order of keys, and the text of the functions depends on the order.
        "column_order": [each.name for each in settings.columns],
    }


def _settings_json(settings: Settings) -> str:
    return literal(json.dumps(remembered(settings), sort_keys=True))


@dataclass(frozen=True)
class Function:
    """A function to install in the database."""

    signature: str
    text: str

    @property
    def checksum(self) -> str:
        return checksum(self.text)


@dataclass(frozen=True)
class Migration:
    """A numbered step of the schema. The checksum is that of the file and does not depend on the settings."""

    version: int
    name: str
    up: str
    down: str
    checksum: str

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that it creates."""
        return tuple(re.findall(r"^create table if not exists (\S+)", self.up, re.MULTILINE))

    @property
    def types(self) -> tuple[str, ...]:
        """The composite types that it creates."""
        return tuple(re.findall(r"^ *create type (\S+) as", self.up, re.MULTILINE))

    @property
    def remake(self) -> str:
        """SQL that creates missing objects. Drops the domains first: the types are created with them."""
        domains = re.findall(r"^ *create domain (\S+) as", self.up, re.MULTILINE)
        checks = "".join(f"to_regtype({literal(name)}) is null or " for name in self.types)
        drops = "".join(f"    drop domain if exists {name};\n" for name in domains)
        if not domains:
            return self.up
        return f"do $usersync$ begin if {checks}false then\n{drops}end if; end; $usersync$;\n{self.up}"


@dataclass(frozen=True)
class Bundle:
    """Everything that usersync installs, rendered for one set of settings."""

    settings: Settings
    bootstrap: str
    migrations: tuple[Migration, ...]
    create_users_table: str
    create_audit_table: str
    alter_audit_table: str
    release_audit_table: str
    note_events: str
    functions: tuple[Function, ...]
    triggers: tuple[tuple[str, str], ...]
    set_privileges: str
    save_settings: str
    read_new_indexes: str
    conflicts: str
    inspect: str
    inspect_audit_log: str
    preview: str
    installed: str
    search_path_dependencies: str


def checksum(text: str) -> str:
    """The SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def read_sql(path: str) -> str:
    """The text of one of the files beside this module."""
    return files("usersync.sql").joinpath(path).read_text(encoding="utf-8")


@cache
def _names_in(directory: str) -> tuple[str, ...]:
    return tuple(sorted(each.name for each in files("usersync.sql").joinpath(directory).iterdir()))


@dataclass(frozen=True)
class _CacheKey:
    """Settings contain mappings, whose order counts, and so have no hash."""

    text: str
    settings: Settings = field(compare=False)


def _cache_key(settings: Settings) -> _CacheKey:
    return _CacheKey(repr(settings), settings)


def render_bundle(settings: Settings) -> Bundle:
    """Render everything that is installed, and check that every value was used."""
    return _render_bundle(_cache_key(settings))


# Rendering takes a third of the processor time of a plan.
@lru_cache(maxsize=16)
def _render_bundle(key: _CacheKey) -> Bundle:
    settings = key.settings
    renderer = Renderer(settings)

    def statement(name: str) -> str:
        return renderer.render(read_sql(f"statements/{name}.sql"))

    leave = read_sql("statements/leave_partitions.sql")
    bundle = Bundle(
        settings=settings,
        bootstrap=statement("bootstrap"),
        migrations=tuple(_migrations(renderer)),
        create_users_table=statement("create_users_table"),
        create_audit_table="".join(
            [
                renderer.render(leave),
                statement("create_audit_table"),
                statement("alter_audit_table"),
                statement("protect_audit_table"),
            ]
        ),
        alter_audit_table=statement("alter_audit_table"),
        release_audit_table=(
            renderer.render(leave.replace("'@is_former_log'", "true")) + statement("release_audit_table")
        ),
        note_events=statement("note_events"),
        functions=tuple(_functions(renderer)),
        triggers=tuple(_triggers(renderer)),
        set_privileges=statement("set_privileges"),
        save_settings=statement("save_settings"),
        read_new_indexes=statement("read_new_indexes"),
        conflicts=statement("conflicts"),
        inspect=statement("inspect"),
        inspect_audit_log=statement("inspect_audit_log"),
        preview=statement("preview"),
        installed=statement("installed"),
        search_path_dependencies=statement("search_path_dependencies"),
    )
    renderer.check_all_used()
    return bundle


def render_survey(name: str, settings: Settings) -> str:
    """One of the queries with which ``usersync init`` reads a database."""
    return _render_query(f"survey/{name}.sql", _cache_key(settings))


def render_catalog(name: str, settings: Settings, **values: str) -> str:
    """A query that reads the catalog only. ``values``: further literals, besides the settings."""
    return _render_query(f"catalog/{name}.sql", _cache_key(settings), **values)


@lru_cache(maxsize=64)
def _render_query(path: str, key: _CacheKey, **values: str) -> str:
    return Renderer(key.settings, values).render(read_sql(path))


def _migrations(renderer: Renderer) -> Iterator[Migration]:
    for file in _names_in("migrations"):
        if not file.endswith(".up.sql"):
            continue
        stem = file.removesuffix(".up.sql")
        up, down = (read_sql(f"migrations/{stem}.{way}.sql") for way in ("up", "down"))
        number, _, name = stem.partition("_")
        yield Migration(int(number), name, renderer.render(up), renderer.render(down), checksum(up))


@cache
def _public_functions() -> tuple[str, ...]:
    """The names of the functions that clients call: those that are in ``public``."""
    heads = (
        re.match(r"(?:--.*\n)*create or replace function public\.(\w+)", read_sql(f"functions/{file}"))
        for file in _names_in("functions")
    )
    return tuple(head[1] for head in heads if head)


def _functions(renderer: Renderer) -> Iterator[Function]:
    for file in _names_in("functions"):
        yield _function(renderer.render(read_sql(f"functions/{file}")), file)
    for reader in readers(renderer.settings.audit):
        if reader.enabled:
            values = {"reader_condition": reader.condition, "reader_comment": literal(reader.comment)}
            text = read_sql("readers/audit_events.sql").replace("audit_events_of_reader", reader.function)
            yield _function(Renderer(renderer.settings, values).render(text), reader.function)


def _function(text: str, file: str) -> Function:
    found = re.search(r"^comment on function (\S+\([^)]*\)) is\b", text, re.MULTILINE)
    if found is None:
        raise LookupError(f"{file} has no comment on its function")
    return Function(found[1], text)


def _triggers(renderer: Renderer) -> Iterator[tuple[str, str]]:
    for name in ("on_auth_user_created", "on_auth_user_updated", "on_auth_user_deleted"):
        yield name, renderer.render(read_sql(f"triggers/{name}.sql"))
