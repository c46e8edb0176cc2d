"""The settings, which are checked when they are read.

The fields of ``Settings`` define all settings: the file, its error messages and ``docs/settings.md`` follow
from them.
"""

from __future__ import annotations

import json
import tomllib
import warnings
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from usersync.config.audit_columns import AUDIT_KEYS, AuditColumns, parse_audit
from usersync.config.key_type import UUID_KEY, KeyType, parse_key_type
from usersync.config.mapping import (
    DEFAULT_COLUMNS,
    SOURCE_TYPES,
    Column,
    TableName,
    check_name,
    did_you_mean,
    parse_column,
    parse_flag,
    parse_table,
)
from usersync.config.retired import RetiredSettingWarning, translate
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FILE_NAME = "usersync.toml"

SOURCE_COPY = TableName("usersync", "auth_users")
#: Its columns hold the fields of the admin API; see ``migrations/0004_source_copy.up.sql``.
COPIED_COLUMNS = frozenset(SOURCE_TYPES) - {"instance_id", "is_sso_user", "is_super_admin"}

OnDelete = Literal["anonymize", "soft", "keep", "delete"]
Skip = Literal["anonymous", "unconfirmed", "without_email"]

_MAX_FILE_BYTES = 1 << 20

_MIN_LOCK_TIMEOUT_MS, _MAX_LOCK_TIMEOUT_MS = 10, 5_000
_MIN_BUDGET_MS, _MAX_BUDGET_MS = 10, 8_000


def _setting(doc: str, **options: Any) -> Any:
    return field(metadata={"doc": doc}, **options)


def _default_columns() -> tuple[Column, ...]:
    return tuple(parse_column(name, entry) for name, entry in DEFAULT_COLUMNS.items())


@dataclass(frozen=True)
class Settings:
    """The settings of one project. Read them with ``load_settings()``."""

    users_table: TableName = _setting(
        "The application's table: created if there is none, otherwise adopted as it is.",
        default=TableName("public", "users"),
    )
    source_table: TableName = _setting(
        "The auth server's table. Never written to. `usersync.auth_users` is for an auth server that has a "
        "database of its own: a copy, which `usersync sync --from-api` keeps.",
        default=TableName("auth", "users"),
    )
    key: str = _setting("The column of the users table that holds the auth server's id.", default="id")
    key_type: KeyType = _setting(
        "The type of that column: `uuid`, or one that holds the id as text: `text`, `varchar`, `varchar(n)`, "
        "`char(36)`, or citext with its schema (`extensions.citext`). The audit log's `user_id` has the same "
        "type. Rows whose key is not the text of a uuid in lower case are not users: they are never "
        "compared, counted as orphaned, changed or removed.",
        default=UUID_KEY,
    )
    users_where: tuple[Column, ...] = _setting(
        "For a table that also holds other rows than users: the columns and constants that identify a user's "
        "row, as in `{ is_personal = true }`. New rows get them. Other rows are never compared, counted "
        "as orphaned, changed or removed.",
        default=(),
    )
    skip: tuple[Skip, ...] = _setting(
        "Users who get no row: `anonymous` (until they are permanent), `unconfirmed` (until an e-mail "
        "address or a phone number is confirmed), `without_email` (until they have an e-mail address). "
        "The row is created in the transaction that changes this. A row that exists is kept in sync.",
        default=(),
    )
    creates_rows: bool = _setting(
        "`false`: the application creates the rows. usersync keeps them in sync, and creates rows "
        "only with `usersync sync --create-missing` and `ensure_user_exists(id, create=True)`.",
        default=True,
    )
    on_delete: OnDelete = _setting(
        "What happens to the row of a user that the auth server deletes: `anonymize` (the id and the time of "
        "deletion stay, personal columns are emptied), `soft` (only the time of deletion is set), `keep` "
        "(nothing), `delete` (the row is deleted).",
        default="anonymize",
    )
    on_soft_delete: OnDelete = _setting(
        "The same for a user that the auth server soft-deletes: the user stays in its table, with "
        "`deleted_at` set and the address overwritten. Default: as `on_delete`. `soft` and `keep` leave the "
        "address in the row. If the column is UNIQUE, a new user with the same address gets a row without "
        "it, or no row.",
        default="anonymize",
    )
    lock_timeout_ms: int = _setting(
        "How long, in milliseconds, a sign-up waits for a lock on the users table. Then the user is recorded "
        f"as a sync failure ({_MIN_LOCK_TIMEOUT_MS} to {_MAX_LOCK_TIMEOUT_MS}).",
        default=250,
    )
    budget_ms: int = _setting(
        "How long, in milliseconds, failed attempts may delay one transaction of the auth server "
        f"({_MIN_BUDGET_MS} to {_MAX_BUDGET_MS}). Users who are not tried then are recorded as sync "
        "failures, and `usersync retry` syncs them. Successful work does not count.",
        default=1000,
    )
    columns: tuple[Column, ...] = _setting(
        "The mapping, a table: each column of the users table and where its value comes from.",
        default_factory=_default_columns,
    )

    audit: AuditColumns = _setting(
        " ".join(AUDIT_KEYS.values()),
        default=AuditColumns(),
    )

    def __post_init__(self) -> None:
        _check_columns(self)

    def describe(self) -> dict[str, Any]:
        """The settings as plain data, in the form that ``parse_settings()`` reads."""
        return {
            "users_table": str(self.users_table),
            "source_table": str(self.source_table),
            "key": self.key,
            "key_type": str(self.key_type),
            "users_where": {column.name: column.value for column in self.users_where},
            "skip": list(self.skip),
            "creates_rows": self.creates_rows,
            "on_delete": self.on_delete,
            "on_soft_delete": self.on_soft_delete,
            "lock_timeout_ms": self.lock_timeout_ms,
            "budget_ms": self.budget_ms,
            "columns": {column.name: column.describe() for column in self.columns},
            "audit": self.audit.describe(),
        }

    @property
    def audit_table(self) -> TableName:
        """The audit log, or the application's table that takes its place."""
        return self.audit.table

    @property
    def copies_source(self) -> bool:
        """Whether the auth server's users are read from the copy, ``usersync.auth_users``."""
        return self.source_table == SOURCE_COPY

    @property
    def deletes_rows(self) -> bool:
        """Whether a deletion of either kind deletes the row."""
        return "delete" in {self.on_delete, self.on_soft_delete}

    @property
    def tombstone(self) -> Column | None:
        """The column that keeps the time of deletion, if one is mapped."""
        return next((column for column in self.columns if column.is_tombstone), None)


def _check_columns(settings: Settings) -> None:
    names = [column.name for column in settings.columns]
    if settings.key in names:
        raise SettingsError(
            f"columns.{settings.key}: this column is the key and always holds the auth server's id",
            hint="Leave it out of [columns].",
        )
    for column in settings.users_where:
        if column.name in {settings.key, *names}:
            raise SettingsError(
                f"users_where.{column.name}: this column is the key, or mapped in [columns]",
                hint="Remove it from one of the two: a user's row always has the constant of users_where.",
            )
    if settings.users_table == settings.source_table:
        raise SettingsError(
            "users_table: must not be the auth server's table",
            hint="usersync never writes to the auth server's table.",
        )
    if settings.source_table.schema == "usersync" and not settings.copies_source:
        raise SettingsError(
            f"source_table: the only table of usersync with the auth server's users is {SOURCE_COPY}",
            hint="It is the copy that usersync sync --from-api updates.",
        )
    if settings.users_table.schema == "usersync":
        raise SettingsError(
            "users_table: usersync rollback removes the schema usersync",
            hint="Use a schema of the application.",
        )
    for name in ("on_delete", "on_soft_delete"):
        if getattr(settings, name) == "soft" and settings.tombstone is None:
            raise SettingsError(
                f'{name}: "soft" requires a column for the time of deletion',
                hint='Map one, for example: deleted_at = "deleted_at"',
            )


def parse_settings(data: Mapping[str, Any]) -> Settings:
    """Read settings from parsed TOML. Raises ``SettingsError``, which names the invalid key.

    Settings of earlier releases are accepted, with a ``RetiredSettingWarning``.
    """
    return _warned(*_parse(data))


def _parse(data: Mapping[str, Any]) -> tuple[Settings, tuple[str, ...]]:
    """The settings, and a warning for each retired or moved one."""
    if not isinstance(data, dict):
        raise SettingsError(f"expected a table of settings, got {data!r}")
    data, outdated = translate(data)
    known = {each.name for each in fields(Settings)}
    for key in data:
        if key not in known:
            raise SettingsError(f"unknown setting {key!r}", hint=did_you_mean(key, known))
    parsed = {key: _PARSERS[key](value, key) for key, value in data.items()}
    if "on_delete" in parsed:
        # In an earlier release, on_delete was for both kinds of deletion.
        parsed.setdefault("on_soft_delete", parsed["on_delete"])
    return Settings(**parsed), outdated


def _warned(settings: Settings, outdated: tuple[str, ...]) -> Settings:
    for each in outdated:
        warnings.warn(each, RetiredSettingWarning, stacklevel=3)
    return settings


def parse_remembered(stored: Mapping[str, Any]) -> Settings:
    """Read the settings that this or another release has stored in a database.

    Unknown settings are left out; ``plan`` reports a newer release. Settings of earlier releases cause no
    warning, because the next ``apply`` replaces them.
    """
    data, _ = translate(stored)
    data = {each.name: data[each.name] for each in fields(Settings) if each.name in data}
    order = stored.get("column_order")
    if isinstance(data.get("columns"), dict) and isinstance(order, list):
        known = [name for name in order if name in data["columns"]]
        data["columns"] = {name: data["columns"][name] for name in dict.fromkeys((*known, *data["columns"]))}
    if isinstance(data.get("audit"), dict):
        data["audit"] = {key: data["audit"][key] for key in AUDIT_KEYS if key in data["audit"]}
    return _named("usersync.settings (in the database)", data)


def _parse_choice(choices: tuple[str, ...]) -> Any:
    def parse(value: object, where: str) -> Any:
        if value not in choices:
            raise SettingsError(
                f"{where}: {value!r} is not one of {', '.join(choices)}",
                hint=did_you_mean(str(value), choices),
            )
        return value

    return parse


def _parse_key(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise SettingsError(f"{where}: expected the name of a column, got {value!r}")
    return check_name(value, where)


def _parse_milliseconds(least: int, most: int) -> Callable[[object, str], int]:
    def parse(value: object, where: str) -> int:
        if type(value) is not int or not least <= value <= most:
            raise SettingsError(f"{where}: expected whole milliseconds from {least} to {most}, got {value!r}")
        return value

    return parse


def _parse_columns(value: object, where: str) -> tuple[Column, ...]:
    if not isinstance(value, dict):
        raise SettingsError(f"{where}: expected a table of columns")
    return tuple(parse_column(name, entry) for name, entry in value.items())


def _parse_users_where(value: object, where: str) -> tuple[Column, ...]:
    if not isinstance(value, dict):
        raise SettingsError(f"{where}: expected columns and constants, as in {{ is_personal = true }}")
    return tuple(parse_column(name, {"value": each}, where) for name, each in value.items())


def _parse_skip(value: object, where: str) -> tuple[Skip, ...]:
    if not isinstance(value, list):
        raise SettingsError(f'{where}: expected a list, as in ["anonymous"]')
    return tuple(dict.fromkeys(_parse_choice(get_args(Skip))(each, where) for each in value))


def _parse_users_table(value: object, where: str) -> TableName:
    if not value and isinstance(value, str):
        raise SettingsError(
            f"{where}: is empty, because it is not decided which table holds your users",
            hint="Write the table's name, or run: usersync init --force --table NAME",
        )
    return parse_table(value, where)


_PARSERS = {
    "users_table": _parse_users_table,
    "source_table": parse_table,
    "key": _parse_key,
    "key_type": parse_key_type,
    "users_where": _parse_users_where,
    "skip": _parse_skip,
    "creates_rows": parse_flag,
    "on_delete": _parse_choice(get_args(OnDelete)),
    "on_soft_delete": _parse_choice(get_args(OnDelete)),
    "lock_timeout_ms": _parse_milliseconds(_MIN_LOCK_TIMEOUT_MS, _MAX_LOCK_TIMEOUT_MS),
    "budget_ms": _parse_milliseconds(_MIN_BUDGET_MS, _MAX_BUDGET_MS),
    "columns": _parse_columns,
    "audit": parse_audit,
}


def differences(applied: Mapping[str, object], read: Mapping[str, object]) -> list[tuple[str, str, str]]:
    """The settings that differ, as ``Settings.describe()`` gives them: the name, and both values as JSON.

    A key of a table has a name of its own, such as ``columns.email``.
    """
    found = []
    for name, here in read.items():
        there = applied.get(name)
        if isinstance(here, dict) and isinstance(there, dict):
            keys = sorted(here.keys() | there.keys())
            pairs = [(f"{name}.{each}", there.get(each), here.get(each)) for each in keys]
        else:
            pairs = [(name, there, here)]
        found += [(where, _shown(a), _shown(b)) for where, a, b in pairs if a != b]
    return found


def _shown(value: object) -> str:
    return "absent" if value is None else json.dumps(value, ensure_ascii=False)


def load_settings(path: Path | None = None, *, directory: Path | None = None) -> Settings:
    """Read the settings from a file.

    The file is ``path``, or ``usersync.toml`` in ``directory`` (default: the current directory), or the
    section ``[tool.usersync]`` of ``pyproject.toml`` there. If none exists, returns the defaults. Raises
    ``SettingsError`` if ``path`` is missing, or if the file is not TOML or contains an invalid setting.
    """
    if path is not None:
        return _named(path.name, _read_toml(path))
    directory = directory or Path()
    own, project = directory / FILE_NAME, directory / "pyproject.toml"
    if own.is_file():
        return _named(own.name, _read_toml(own))
    if project.is_file():
        tools = _read_toml(project).get("tool", {})
        section = tools.get("usersync", {}) if isinstance(tools, dict) else {}
        return _named(f"{project.name} [tool.usersync]", section)
    return Settings()


def _named(name: str, data: Mapping[str, Any]) -> Settings:
    try:
        settings, outdated = _parse(data)
    except SettingsError as error:
        raise SettingsError(f"{name}: {error}", hint=error.hint) from None
    return _warned(settings, tuple(f"{name}: {each}" for each in outdated))


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(
            f"cannot read {path}: {error.strerror}", hint="Check the name, and who may read it."
        ) from error
    if len(content) > _MAX_FILE_BYTES:
        raise SettingsError(
            f"{path} is larger than {_MAX_FILE_BYTES >> 10} KiB, so it is not a settings file"
        )
    try:
        # utf-8-sig: some editors on Windows write a byte-order mark.
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8 text: {error}") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
