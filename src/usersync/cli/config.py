"""``usersync config``: every setting, connection string and key, with its source."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import DEFAULTS, Call, common_options, examples
from usersync.cli.text import bad, bold, faint, good, plain, table, warning, wrap
from usersync.cli.toml_lines import lines_of_keys
from usersync.config.environment import ENVIRONMENT, Found, look_everywhere
from usersync.config.retired import MOVED
from usersync.config.settings import Settings
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.cli.output import View

HIDDEN = "[hidden]"
_SPOOL = "USERSYNC_SPOOL_DIR"
_DATABASE = ("SUPABASE_DB_URL", "DATABASE_URL")
_URL = "SUPABASE_URL"
_KEYS = ("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY")
_AUTH_URL = "SUPABASE_AUTH_URL"
_JWT_SECRET = "SUPABASE_JWT_SECRET"  # noqa: S105 - its name
_SECRET_KEY = "USERSYNC_SECRET_KEY"  # noqa: S105 - its name

#: Variables that are used even if a database's connection string is set.
_INDEPENDENT = {_AUTH_URL, _JWT_SECRET, _SECRET_KEY}


@dataclass(frozen=True)
class Variable:
    """An environment variable or option. Its value contains no secret."""

    name: str
    value: str
    source: str
    used: bool
    problem: str | None = None


@dataclass(frozen=True)
class Value:
    """A setting's value, as TOML writes it, and its source."""

    name: str
    value: Any
    source: str


@dataclass(frozen=True)
class ConfigView:
    """The database that usersync would connect to, the variables and the settings, each with its source."""

    target: str | None
    problem: SettingsError | None
    variables: tuple[Variable, ...]
    settings_file: str
    settings: tuple[Value, ...]

    @property
    def exit_code(self) -> int:
        return 1 if self.problem or any(each.used and each.problem for each in self.variables) else 0

    def lines(self, width: int) -> Iterator[str]:
        yield bold("Database")
        if self.target:
            yield f"  {good(self.target)}"
        elif self.problem:
            yield from wrap(plain(self.problem), width, first=f"  {bad('none')}: ")
            yield from wrap(plain(self.problem.hint or ""), width, first=faint("  hint: "))
        yield ""
        yield bold("Connection strings and keys")
        yield from table(map(_variable_row, self.variables), width, indent="  ")
        yield ""
        yield bold("Settings") + faint(f"  {self.settings_file}")
        yield from table(
            ((each.name, faint(each.source), plain(_toml(_brief(each.value)))) for each in self.settings),
            width,
            indent="  ",
        )

    def data(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "problem": str(self.problem) if self.problem else None,
            "variables": [asdict(each) for each in self.variables],
            "settings_file": None if self.settings_file == DEFAULTS else self.settings_file,
            "settings": [asdict(each) for each in self.settings],
        }


def _variable_row(each: Variable) -> tuple[str, str, str]:
    shown = plain(each.value) if each.used or not each.value else faint(f"{plain(each.value)} (not used)")
    if each.problem:
        shown += f"  {(bad if each.used else warning)(plain(each.problem))}"
    return each.name, faint(each.source), shown


#: Defaults of a column, which are not printed.
_COLUMN_DEFAULTS = {"owner": "auth", "trusted": False}


def _brief(value: Any) -> Any:
    """A column in its shortest form. Other values are unchanged."""
    if not isinstance(value, dict) or "from" not in value:
        return value
    sources = value["from"][0] if len(value["from"]) == 1 else value["from"]
    rest = {
        key: each
        for key, each in value.items()
        if key not in {"from", "personal"} and _COLUMN_DEFAULTS.get(key) != each
    }
    return {"from": sources, **rest} if rest else sources


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


@click.command(
    epilog=examples(
        ("usersync config", "each value, its source, and what it overrides"),
        ("usersync config --json", "for programs"),
    )
)
@common_options
def config(call: Call) -> View:
    """Show each setting, connection string and key, and its source.

    Does not connect, and shows no password and no key. Exit code 1 if a value that usersync would use is
    invalid, or if no database is configured.
    """
    target: str | None = None
    problem: SettingsError | None = None
    try:
        target = call.target
    except SettingsError as error:
        problem = error
    settings = call.settings
    return ConfigView(
        target, problem, tuple(_variables(call)), call.settings_source, tuple(_settings(call, settings))
    )


def _variables(call: Call) -> Iterator[Variable]:
    from usersync.config.dsn import other_database  # noqa: PLC0415 - a driver

    taken = call.dsn_option is not None or call.host_program is not None
    if call.dsn_option is not None:
        yield _variable(Found("--dsn", call.dsn_option, "command line"), used=True)
    for names in (_DATABASE, (_URL,), _KEYS, (_AUTH_URL,), (_JWT_SECRET,), (_SECRET_KEY,)):
        found = sorted(_found(names), key=lambda each: _PLACES.index(each.place))
        usable = [each for each in found if names != _DATABASE or not other_database(each)]
        for each in found:
            yield _variable(each, used=each in usable[:1] and (not taken or each.variable in _INDEPENDENT))
        for name in names:
            if all(each.variable != name for each in found):
                yield Variable(name, "", "not set", used=False)
        if names == _DATABASE:
            taken = taken or bool(usable)
    spool = os.environ.get(_SPOOL)
    yield Variable(_SPOOL, spool or "", ENVIRONMENT if spool else "not set", used=bool(spool))


_PLACES = (ENVIRONMENT, ".env.local", ".env")


def _found(names: tuple[str, ...]) -> Iterator[Found]:
    for name in names:
        yield from look_everywhere(name)


def _variable(found: Found, *, used: bool) -> Variable:
    value, problem = _masked(found)
    return Variable(found.variable, value, found.where, used, problem)


def _masked(found: Found) -> tuple[str, str | None]:
    """The value without its secret parts, and the problem with it, if any."""
    from usersync.config.dsn import check_dsn, describe_login, other_database  # noqa: PLC0415 - a driver
    from usersync.transports.data_api.api import plain_http_problem, url_problem  # noqa: PLC0415 - a driver
    from usersync.transports.data_api.keys import Key  # noqa: PLC0415 - a driver

    if found.variable in {_URL, _AUTH_URL}:
        problem = url_problem(found.value) or plain_http_problem(found.value)
        return (HIDDEN if problem else found.value.strip()), problem and f"it {problem}"
    if found.variable in {_JWT_SECRET, _SECRET_KEY}:
        return HIDDEN, None
    if found.variable in _KEYS:
        key = Key(found.value)
        problem = key.why_not(None)
        return (HIDDEN if problem else f"{key.kind} {HIDDEN}"), problem
    if other := other_database(found):
        return HIDDEN, f"it is for {other}"
    try:
        return describe_login(check_dsn(found.value, "it"), HIDDEN), None
    except SettingsError as error:
        return HIDDEN, str(error)


def _settings(call: Call, settings: Settings) -> Iterator[Value]:
    sources = _FileSources(call) if call.config or call.host_program is None else _HostProgramSources(call)
    for name, value in settings.describe().items():
        if name == "audit":
            yield from _audit(value, sources)
        elif isinstance(value, dict):
            yield from _nested((name,), value, sources)
        else:
            yield Value(name, value, sources.of(name))


def _audit(section: dict[str, Any], sources: _FileSources | _HostProgramSources) -> Iterator[Value]:
    for name, value in section.items():
        if name == "columns" and value:
            yield from _nested(("audit", name), value, sources)
        else:
            yield Value(f"audit.{name}", value, sources.of("audit", name))


def _nested(
    path: tuple[str, ...], columns: dict[str, Any], sources: _FileSources | _HostProgramSources
) -> Iterator[Value]:
    for column, source in columns.items():
        yield Value(".".join((*path, column)), source, sources.of(*path, column))


class _FileSources:
    """The file and line of each setting."""

    def __init__(self, call: Call) -> None:
        self._file = call.settings_source
        path = call.config or (Path(self._file) if self._file != DEFAULTS else None)
        self._lines = lines_of_keys(path.read_text("utf-8-sig")) if path else {}
        self._prefix = (
            ("tool", "usersync") if path and path.name == "pyproject.toml" and not call.config else ()
        )

    def of(self, *path: str) -> str:
        lines = (self._lines.get((*self._prefix, *each)) for each in (path, _former(path)))
        line = next(filter(None, lines), None)
        return f"{self._file}:{line}" if line else "default"


def _former(path: tuple[str, ...]) -> tuple[str, ...]:
    """The path of a setting before it was moved, or ``path`` if it was not moved."""
    return next(((name,) for name, moved in MOVED.items() if moved == path), path)


class _HostProgramSources:
    """The source of each setting that the host program gives."""

    def __init__(self, call: Call) -> None:
        given, defaults = call.settings.describe(), Settings().describe()
        self._changed = {name for name in given if given[name] != defaults[name]}
        self._source = call.settings_source

    def of(self, *path: str) -> str:
        return self._source if path[0] in self._changed else "default"
