"""What commands have in common: their options, and what they are given because of them."""

from __future__ import annotations

import functools
import getpass
import math
import platform
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
from usersync.config.settings import FILE_NAME, Settings, load_settings
from usersync.core.admin_actions import record_admin_action
from usersync.core.blockers import advice, blockers
from usersync.core.installed import settings_in_database
from usersync.errors import BusyError, NeedsDatabaseError, SettingsError, UsersyncError
from usersync.sql.render import COMMAND_LOCK_TIMEOUT
from usersync.transports.steps import ON_WAIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from usersync.transports.data_api import DataApi
    from usersync.transports.steps import Steps

T = TypeVar("T")

DEFAULTS = "defaults"


@dataclass(frozen=True)
class Surroundings:
    """What the program knows that the command is part of; ``--dsn`` and ``--config`` go before.

    Both functions may raise ``SettingsError``.
    """

    find_dsn: Callable[[], str]
    find_settings: Callable[[], Settings]
    #: Where these settings come from, for people.
    settings_source: str


def _limit_waiting(connection: psycopg.Connection[Any]) -> None:
    """Wait for locks no longer than ``COMMAND_LOCK_TIMEOUT``.

    Not through a pooler, where the session is not ours alone: there the functions and transactions say so.
    """
    connection.execute(
        "select case when pg_backend_pid() = %s then set_config('lock_timeout', %s, false) end",
        [connection.info.backend_pid, COMMAND_LOCK_TIMEOUT],
    )


@dataclass(frozen=True)
class Call:
    """One call of a command: where it prints, which database and which settings it is about."""

    output: Output
    dsn_option: str | None = None
    config: Path | None = None
    surroundings: Surroundings | None = None
    #: Settings that are not written to a file yet.
    given: Settings | None = None

    @functools.cached_property
    def source(self) -> str | DataApi:
        """The address, from ``--dsn`` or the environment, else the Data API. Never to be printed."""
        from usersync.transports.psycopg import find_source  # noqa: PLC0415 - a driver, which --help can do without

        return find_source() if self.dsn_option is None and self.surroundings is None else self.dsn

    @functools.cached_property
    def dsn(self) -> str:
        """The address; raises ``NeedsDatabaseError`` where there is only a Data API."""
        from usersync.config.dsn import VARIABLES, find_dsn  # noqa: PLC0415 - likewise

        if self.dsn_option is not None and not self.dsn_option.strip():
            # Not the same as leaving it out: most likely a variable that is not set.
            raise SettingsError("--dsn is empty", hint="Leave it out to use SUPABASE_DB_URL or DATABASE_URL.")
        if self.dsn_option is None and self.surroundings is not None:
            return self.surroundings.find_dsn()
        if self.dsn_option is None and look_up("SUPABASE_URL") and not look_up(*VARIABLES):
            raise NeedsDatabaseError(
                "this needs a connection to the database, and there is only the Data API (SUPABASE_URL)",
                hint="Set SUPABASE_DB_URL, or pass --dsn. The Data API supports status, sync, "
                "failures, retry, pause and resume.",
            )
        return find_dsn(self.dsn_option)

    @functools.cached_property
    def target(self) -> str:
        """The database's host, port and name, or the Data API's host: what may be shown."""
        from usersync.config.dsn import describe_target  # noqa: PLC0415 - likewise

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
        if self.config is None and self.surroundings is not None:
            return self.surroundings.find_settings()
        return load_settings(self.config)

    @functools.cached_property
    def settings_there(self) -> Settings:
        """The settings that the database was set up with: a file may have changed since, or be another's."""
        return self.run(stored_settings(self.settings))

    @property
    def settings_source(self) -> str:
        """Which file the settings were read from."""
        if self.config is not None:
            return str(self.config)
        if self.surroundings is not None:
            return self.surroundings.settings_source
        for name in (FILE_NAME, "pyproject.toml"):
            if Path(name).is_file() and (name == FILE_NAME or self.settings != Settings()):
                return name
        return DEFAULTS

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """An autocommit connection; raises ``ConnectionFailedError``."""
        from usersync.transports.psycopg import connect  # noqa: PLC0415 - likewise

        with connect(self.dsn) as connection:
            _limit_waiting(connection)
            yield connection

    def run(self, plan: Steps[T]) -> T:
        """Drive a plan over a connection of its own, or over the Data API."""
        from usersync.transports.psycopg import transport_for  # noqa: PLC0415 - likewise
        from usersync.transports.run import run  # noqa: PLC0415 - likewise

        if isinstance(self.source, str):
            with self.connection() as connection:
                return run(plan, connection)
        with closing(transport_for(self.source)) as link:
            return link.run(plan)

    @functools.cached_property
    def by(self) -> str:
        """Who runs the command, for the audit log: the database's role may be everybody's."""
        try:
            account = getpass.getuser()
        except (KeyError, OSError):
            account = "unknown"
        return f"{account}@{platform.node()}"

    def record_act(self, action: str, **details: Any) -> None:
        """Record in the audit log, where there is one, what this command has done."""
        if isinstance(self.source, str):
            self.run(record_admin_action(self.settings_there, action, by=self.by, **details))

    def name_blockers(self, error: BusyError) -> BusyError:
        """The error with the sessions that hold the lock, as far as a connection can see them."""
        from usersync.transports.run import run  # noqa: PLC0415 - likewise

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
        """Say so where the settings of this directory are not those that the database was set up with."""
        if self.settings_source == DEFAULTS or not isinstance(self.source, str):
            return
        if differing := self.run(differing_settings(self.settings)):
            self.output.warn(
                f"{', '.join(differing)}: {self.settings_source} says something else than the database was "
                "set up with, which is what counts",
                "usersync plan shows what would change, usersync apply changes it.",
            )

    def require_consent(self, *, yes: bool) -> None:
        """Before a change that is asked about: raise a usage error where nobody can be asked."""
        if not yes and (self.output.as_json or not can_ask()):
            raise click.UsageError("there is nobody to ask for confirmation here: add --yes to go ahead")

    def ask(self, question: str) -> None:
        """Go on if the answer is yes; else end the command, with exit code 1."""
        if not self.output.confirm(question):
            self.output.say("Nothing was changed.")
            click.get_current_context().exit(1)


def stored_settings(otherwise: Settings) -> Steps[Settings]:
    """The settings that usersync was last applied with; these where it was not."""
    return (yield from settings_in_database()) or otherwise


def differing_settings(settings: Settings) -> Steps[tuple[str, ...]]:
    """The names of those settings that usersync was last applied with otherwise; none where it was not."""
    stored = yield from settings_in_database()
    if stored is None:
        return ()
    there = stored.describe()
    return tuple(name for name, value in settings.describe().items() if there[name] != value)


def examples(*lines: tuple[str, str]) -> str:
    """The end of a command's help: what to type, and what it is for."""
    width = max(len(typed) for typed, _ in lines)
    return "\n".join(["\b", "Examples:", *(f"  {typed:{width}}  {what}" for typed, what in lines)])


class Number(click.FloatRange):
    """A number in a range, which nan is in neither."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is no number", param, ctx)
        return found


Command = Callable[..., View | None]


def common_options(command: Command) -> Callable[..., None]:
    """Give a command the options that all have, and ``call: Call`` as its first argument.

    What it returns is shown, and becomes the exit code.
    """
    return _DSN(settings_options(command))


def settings_options(command: Command) -> Callable[..., None]:
    """The same for a command that reads settings and no database: without ``--dsn``."""
    return _CONFIG(output_options(command))


def output_options(command: Command) -> Callable[..., None]:
    """The same for a command that has its own database: without ``--dsn`` and ``--config``."""

    @functools.wraps(command)
    def run(
        *, as_json: bool, verbose: bool, dsn: str | None = None, config: Path | None = None, **options: Any
    ) -> None:
        surroundings = click.get_current_context().find_object(Surroundings)
        call = Call(Output(as_json=as_json, verbose=verbose), dsn, config, surroundings)
        ON_WAIT.set(call.output.tell)
        try:
            view = command(call, **options)
        except BusyError as error:
            raise call.name_blockers(error) from error
        if view is not None:
            call.output.show(view)
            click.get_current_context().exit(view.exit_code)

    return _JSON(_VERBOSE(run))


_DSN = click.option(
    "--dsn",
    metavar="URL",
    help="The database: postgresql://user:password@host:port/dbname. Default: SUPABASE_DB_URL or "
    "DATABASE_URL, from the environment, .env.local or .env; without them status, sync, failures and retry "
    "use the Data API (SUPABASE_URL, SUPABASE_SECRET_KEY).",
)
_CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The settings. Default: usersync.toml, else [tool.usersync] in pyproject.toml.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document, errors included.")
_VERBOSE = click.option(
    "--verbose", is_flag=True, help="Name each function of a change; with an error, show where it comes from."
)

#: For a command that looks into the spools of this machine; gives it ``directory: Path | None``.
spools_option = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where spools are. Default: USERSYNC_SPOOL_DIR, else this account's state directory.",
)
