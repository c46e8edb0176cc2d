"""``usersync sql``: prints the installation as an SQL script, without a connection."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, examples, settings_options
from usersync.cli.text import align, good, typed
from usersync.errors import SettingsError
from usersync.sql.script import install_script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.cli.output import View


@dataclass(frozen=True)
class WrittenView:
    """The path of the script, and the next commands."""

    path: Path
    settings_source: str
    steps: tuple[tuple[str, str], ...]
    #: False if a migration with this script already exists.
    written: bool = True
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - a path is never wrapped
        how = good("Written:") if self.written else "Nothing new. Already in:"
        yield f"{how} {self.path}  (settings: {self.settings_source})"
        yield ""
        yield "Next:"
        yield from align([(typed(step), what) for step, what in self.steps], indent="  ")

    def data(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "written": self.written,
            "settings": {"source": self.settings_source},
            "next": [step for step, _ in self.steps],
        }


@dataclass(frozen=True)
class ScriptView:
    """The script itself."""

    script: str
    settings_source: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - SQL is not wrapped
        yield self.script.rstrip("\n")

    def data(self) -> dict[str, Any]:
        return {"settings": {"source": self.settings_source}, "sql": self.script}


@click.command(
    epilog=examples(
        ("usersync sql", "to standard output"),
        ("usersync sql --supabase", "as a migration for 'supabase db push'"),
    )
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the script to this file instead of standard output.",
)
@click.option(
    "--supabase",
    "project",
    type=click.Path(file_okay=False, path_type=Path),
    is_flag=False,
    flag_value=".",
    metavar="[DIR]",
    help="Write the script as a migration for 'supabase db push' to supabase/migrations/ in DIR (default: "
    "the current directory).",
)
@settings_options
def sql(call: Call, output: Path | None, project: Path | None) -> View:
    """Print the SQL of apply, without a connection.

    The script installs or upgrades, and can be run again. Its triggers sync users from then on. Run
    'usersync sync' afterwards for the existing users.
    """
    if output and project:
        raise click.UsageError("--output and --supabase exclude each other")
    script = install_script(call.settings, transaction=project is None)
    if project is not None:
        return _for_supabase(script, project, call)
    if output is None:
        return ScriptView(script, call.settings_source)
    _write(output, script)
    run = f"psql --set ON_ERROR_STOP=1 --file {output}"
    return WrittenView(output, call.settings_source, ((run, "as postgres"), _THEN))


_THEN = ("usersync sync", "for the existing users")


def _for_supabase(script: str, project: Path, call: Call) -> WrittenView:
    folder = project / "supabase"
    if not folder.is_dir():
        raise SettingsError(
            f"the directory {folder} does not exist, so {project} is not a Supabase project",
            hint="Run 'supabase init' first, or name the project's directory: usersync sql --supabase DIR",
        )
    push = ("supabase db push", "to the linked project")
    local = ("supabase migration up", "to the local project")
    steps = (push, local, _THEN)
    newest = max((folder / "migrations").glob("*_usersync.sql"), default=None)
    if newest is not None and _holds(newest, script):
        return WrittenView(newest, call.settings_source, steps, written=False)
    path = folder / "migrations" / f"{datetime.now(UTC):%Y%m%d%H%M%S}_usersync.sql"
    _write(path, script, exclusively=True)
    return WrittenView(path, call.settings_source, steps)


def _holds(path: Path, script: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == script
    except (OSError, ValueError):
        return False


def _write(path: Path, script: str, *, exclusively: bool = False) -> None:
    try:
        if exclusively:
            path.parent.mkdir(exist_ok=True)
        with path.open("x" if exclusively else "w", encoding="utf-8") as file:
            file.write(script)
    except (OSError, ValueError) as error:
        raise SettingsError(f"cannot write {path}: {error}") from error
