"""The options that commands share, and the ``Call`` object that holds their values."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from usersync.cli.output import Output, View, can_ask
from usersync.config.environment import look_up
from usersync.config.retired import RetiredSettingWarning
from usersync.config.settings import FILE_NAME, Settings, differences, load_settings
from usersync.core.admin_actions import account, record_admin_action
from usersync.core.blockers import advice, blockers
from usersync.core.installed import settings_in_database
from usersync.errors import BusyError, NeedsDatabaseError, SettingsError, UsersyncError
from usersync.manage.connecting import connected
from usersync.transports.steps import ON_WAIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from usersync.transports.data_api import DataApi
    from usersync.transports.steps import Steps

T = TypeVar("T")

DEFAULTS = "defaults"


@dataclass(frozen=True)
class HostProgram:
    """The database and the settings of a program that embeds the command, such as Django's ``manage.py``.

    ``--dsn`` and ``--config`` take precedence. Both functions may raise ``SettingsError``.
    """

    find_dsn: Callable[[], str]
    find_settings: Callable[[], Settings]
    #: The source of these settings, as the commands print it.
    settings_source: str


@dataclass(frozen=True)
class Call:
    """One call of a command: its output, its database and its settings."""

    output: Output
    dsn_option: str | None = None
    config: Path | None = None
    host_program: HostProgram | None = None
    #: Settings that are not written to a file yet.
    given: Settings | None = None
    #: Then the settings of the file, as it is now.
    file_settings: Settings | None = None

    @functools.cached_property
    def source(self) -> str | DataApi:
        """The connection string from ``--dsn`` or the environment, else the Data API. Never print it."""
        from usersync.transports.psycopg import find_source  # noqa: PLC0415 - a driver, which --help does not need

        return find_source() if self.dsn_option is None and self.host_program is None else self.dsn

    @functools.cached_property
    def dsn(self) -> str:
        """The connection string. Raises ``NeedsDatabaseError`` if only a Data API is configured."""
        from usersync.config.dsn import find_dsn, look_up_dsn  # noqa: PLC0415 - only if used

        if self.dsn_option is not None and not self.dsn_option.strip():
            # Most likely --dsn "$VARIABLE" with a variable that is not set.
            raise SettingsError("--dsn is empty", hint="Leave it out to use SUPABASE_DB_URL or DATABASE_URL.")
        if self.dsn_option is None and self.host_program is not None:
            return self.host_program.find_dsn()
        if self.dsn_option is None and look_up("SUPABASE_URL") and not look_up_dsn():
            raise NeedsDatabaseError(
                "this command requires a database connection, but only SUPABASE_URL is configured",
                hint="Put the connection string into .env.local as SUPABASE_DB_URL, or pass --dsn. "
                "The Data API supports status, sync, failures, retry, pause, "
                "resume, audit search, audit show and audit history.",
            )
        return find_dsn(self.dsn_option)

    @functools.cached_property
    def target(self) -> str:
        """The database's host, port and name, or the Data API's host. Contains no password."""
        from usersync.config.dsn import describe_target  # noqa: PLC0415 - only if used

        return describe_target(self.source) if isinstance(self.source, str) else self.source.target

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings; raises ``SettingsError``."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RetiredSettingWarning)
            found = self._find_settings()
        for each in caught:
            self.output.warn(str(each.message))
        return found

    def _find_settings(self) -> Settings:
        if self.given is not None:
            return self.given
        if self.config is None and self.host_program is not None:
            return self.host_program.find_settings()
        return load_settings(self.config)

    @functools.cached_property
    def applied_settings(self) -> Settings:
        """The settings that usersync was last applied with. The settings file may differ from them."""
        return self.run(stored_settings(self.settings))

    @property
    def settings_source(self) -> str:
        """Which file the settings were read from."""
        if self.config is not None:
            return str(self.config)
        if self.host_program is not None:
            return self.host_program.settings_source
        for name in (FILE_NAME, "pyproject.toml"):
            if Path(name).is_file() and (name == FILE_NAME or self.settings != Settings()):
                return name
        return DEFAULTS

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """An autocommit connection; raises ``ConnectionFailedError``."""
        with connected(self.dsn) as connection:
            yield connection

    def run(self, operation: Steps[T]) -> T:
        """Run an operation on a new connection, or over the Data API."""
        from usersync.transports.psycopg import transport_for  # noqa: PLC0415 - only if used
        from usersync.transports.run import run  # noqa: PLC0415 - only if used

        if isinstance(self.source, str):
            with self.connection() as connection:
                return run(operation, connection)
        with closing(transport_for(self.source)) as transport:
            return transport.run(operation)

    @property
    def by(self) -> str:
        """Who runs the command, for the audit log."""
        return account()

    def record_act(self, action: str, **details: Any) -> None:
        """Record this command's action in the audit log, if one exists."""
        if isinstance(self.source, str):
            self.run(record_admin_action(self.applied_settings, action, by=self.by, **details))

    def name_blockers(self, error: BusyError) -> BusyError:
        """The error with a hint that names the sessions that hold the lock, if they are visible."""
        from usersync.transports.run import run  # noqa: PLC0415 - only if used

        if not isinstance(self.source, str):
            return error
        try:
            with self.connection() as connection:
                found = run(blockers(self.settings), connection)
        except UsersyncError:
            return error
        if not found:
            return error
        return BusyError(str(error), hint=advice(found), sqlstate=error.sqlstate)

    def warn_of_other_settings(self) -> None:
        """Warn if the settings of this directory differ from those that usersync was last applied with."""
        if self.settings_source == DEFAULTS or not isinstance(self.source, str):
            return
        if differing := self.run(differing_settings(self.settings)):
            names = dict.fromkeys(name.partition(".")[0] for name, *_ in differing)
            self.output.warn(
                f"{', '.join(names)}: {self.settings_source} differs from the settings that usersync was "
                "applied with. The applied settings are used.",
                "usersync plan shows what would change, usersync apply changes it.",
            )

    def require_consent(self, *, yes: bool) -> None:
        """Raise a usage error if the command cannot ask for confirmation and ``--yes`` is missing."""
        if not yes and (self.output.as_json or not can_ask()):
            raise click.UsageError("cannot ask for confirmation without a terminal: add --yes")

    def ask(self, question: str) -> None:
        """Ask a question. If the answer is no, end the command with exit code 1."""
        if not self.output.confirm(question):
            self.output.say("Nothing was changed.")
            click.get_current_context().exit(1)


def stored_settings(otherwise: Settings) -> Steps[Settings]:
    """The settings that usersync was last applied with, or ``otherwise`` if it never was."""
    return (yield from settings_in_database()) or otherwise


def differing_settings(settings: Settings) -> Steps[tuple[tuple[str, str, str], ...]]:
    """The settings that have changed since usersync was last applied: name, value then, value now."""
    stored = yield from settings_in_database()
    return tuple(differences(stored.describe(), settings.describe())) if stored is not None else ()


_LAST_PORT = 65_535


def examples(*lines: tuple[str, str]) -> str:
    """The examples at the end of a command's help: each command with its purpose."""
    width = max(len(typed) for typed, _ in lines)
    return "\n".join(["\b", "Examples:", *(f"  {typed:{width}}  {what}" for typed, what in lines)])


def names(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """The callback of an option that takes names: separated by commas, or the option repeated."""
    return tuple(dict.fromkeys(filter(None, (each.strip() for text in given for each in text.split(",")))))


def address_option(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """The callback of an option that takes ``PORT`` or ``HOST:PORT``."""
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if not port.isdecimal() or int(port) > _LAST_PORT:
        raise click.BadParameter(f"{value!r} is not PORT or HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def ingest_option(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """The callback of ``--ingest``: its value, else that of ``USERSYNC_INGEST``."""
    return usual_ingest() if value is None else value


def usual_ingest() -> str | None:
    """The URL in ``USERSYNC_INGEST``: from the environment, .env.local or .env."""
    found = look_up("USERSYNC_INGEST")
    return found.value if found else None


def in_url(host: str) -> str:
    """A host as it is written in a URL."""
    return f"[{host}]" if ":" in host else host


class Number(click.FloatRange):
    """A number in a range. NaN is not accepted."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is not a number", param, ctx)
        return found


Command = Callable[..., View | None]


def common_options(command: Command) -> Callable[..., None]:
    """Add the common options to a command, and pass ``call: Call`` as its first argument.

    The view that the command returns is printed, and gives the exit code.
    """
    return _DSN(settings_options(command))


def data_api_options(command: Command) -> Callable[..., None]:
    """Like ``common_options``, for a command that also works over the Data API."""
    return _DSN_OR_API(settings_options(command))


def schema_options(command: Command) -> Callable[..., None]:
    """Like ``common_options``, for a command whose ``--verbose`` lists the changed functions."""
    return _DSN(_CONFIG(_JSON(_VERBOSE_SCHEMA(_run(command)))))


def settings_options(command: Command) -> Callable[..., None]:
    """Like ``common_options``, without ``--dsn``: for a command that reads settings only."""
    return _CONFIG(output_options(command))


def output_options(command: Command) -> Callable[..., None]:
    """Like ``common_options``, without ``--dsn`` and ``--config``."""
    return _JSON(_VERBOSE(_run(command)))


def _run(command: Command) -> Callable[..., None]:
    @functools.wraps(command)
    def run(
        *, as_json: bool, verbose: bool, dsn: str | None = None, config: Path | None = None, **options: Any
    ) -> None:
        host_program = click.get_current_context().find_object(HostProgram)
        call = Call(Output(as_json=as_json, verbose=verbose), dsn, config, host_program)
        ON_WAIT.set(call.output.tell)
        try:
            view = command(call, **options)
        except BusyError as error:
            raise call.name_blockers(error) from error
        if view is not None:
            call.output.show(view)
            click.get_current_context().exit(view.exit_code)

    return run


_DSN_HELP = (
    "The connection string: postgresql://user:password@host:port/dbname. Default: SUPABASE_DB_URL or "
    "DATABASE_URL, from the environment, .env.local or .env."
)
_DSN = click.option("--dsn", metavar="URL", help=_DSN_HELP)
_DSN_OR_API = click.option(
    "--dsn",
    metavar="URL",
    help=f"{_DSN_HELP} If both are missing: the Data API (SUPABASE_URL, SUPABASE_SECRET_KEY).",
)
_CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The settings file. Default: usersync.toml, else [tool.usersync] in pyproject.toml.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document, errors included.")
_VERBOSE = click.option("--verbose", is_flag=True, help="With an error, print the traceback.")
_VERBOSE_SCHEMA = click.option(
    "--verbose", is_flag=True, help="List each changed function. With an error, print the traceback."
)

#: For a command that reads the spools of this machine. Passes ``directory: Path | None``.
spools_option = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The directory of the spools. Default: USERSYNC_SPOOL_DIR, else this account's state directory.",
)
