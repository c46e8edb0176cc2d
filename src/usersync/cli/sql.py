"""``usersync sql``: prints the installation as SQL, without a connection."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
    """The paths of the texts, and the next commands."""

    paths: tuple[Path, ...]
    settings_source: str
    steps: tuple[tuple[str, str], ...]
    #: False if a migration with this script already exists.
    written: bool = True
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - a path is never wrapped
        how = good("Written:") if self.written else "Nothing new. Already in:"
        for path in self.paths:
            yield f"{how} {path}  (settings: {self.settings_source})"
        yield ""
        yield "Next:"
        yield from align([(typed(step), what) for step, what in self.steps], indent="  ")

    def data(self) -> dict[str, Any]:
        return {
            "path": self.paths[0],
            "paths": list(self.paths),
            "written": self.written,
            "settings": {"source": self.settings_source},
            "next": [step for step, _ in self.steps],
        }


@dataclass(frozen=True)
class ScriptView:
    """The texts themselves."""

    texts: tuple[str, ...]
    settings_source: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - SQL is not wrapped
        yield "\n".join(self.texts).rstrip("\n")

    def data(self) -> dict[str, Any]:
        settings = {"source": self.settings_source}
        return {"settings": settings, "sql": "\n".join(self.texts), "texts": list(self.texts)}


@click.command(
    epilog=examples(
        ("usersync sql", "to standard output"),
        ("usersync sql --output install.sql", "for psql or a migration tool"),
        ("usersync sql --supabase", "as a migration for 'supabase db push'"),
    )
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write to this file instead of standard output. A second text gets the number 2.",
)
@click.option(
    "--supabase",
    "project",
    type=click.Path(file_okay=False, path_type=Path),
    is_flag=False,
    flag_value=".",
    metavar="[DIR]",
    help="Write a migration for 'supabase db push' to supabase/migrations/ in DIR (default: "
    "the current directory).",
)
@settings_options
def sql(call: Call, output: Path | None, project: Path | None) -> View:
    """Print the SQL of apply, without a connection.

    The SQL installs or upgrades, and can be run again. Its triggers sync users from then on. Run
    'usersync sync' afterwards for the existing users.

    It is one statement, so it is one transaction, or part of yours. psql, migration tools and drivers take it
    unchanged: it has no BEGIN and no COMMIT, no percent signs or named parameters, and leaves no setting
    behind. If an upgrade needs several transactions, there are several numbered texts.
    """
    if output and project:
        raise click.UsageError("--output and --supabase exclude each other")
    texts = install_script(call.settings)
    if project is not None:
        return _for_supabase(texts, project, call)
    if output is None:
        return ScriptView(texts, call.settings_source)
    paths = tuple(_numbered(output, number) for number in range(1, len(texts) + 1))
    for path, text in zip(paths, texts, strict=True):
        _write(path, text)
    steps = [(f"psql --set ON_ERROR_STOP=1 --file {path}", "as postgres") for path in paths]
    return WrittenView(paths, call.settings_source, (*steps, _THEN))


_THEN = ("usersync sync", "for the existing users")


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_stem(f"{path.stem}_{number}")


def _for_supabase(texts: tuple[str, ...], project: Path, call: Call) -> WrittenView:
    folder = project / "supabase"
    if not folder.is_dir():
        raise SettingsError(
            f"the directory {folder} does not exist, so {project} is not a Supabase project",
            hint="Run 'supabase init' first, or name the project's directory: usersync sql --supabase DIR",
        )
    push = ("supabase db push", "to the linked project")
    local = ("supabase migration up", "to the local project")
    steps = (push, local, _THEN)
    migrations = folder / "migrations"
    newest = sorted(migrations.glob("*_usersync*.sql"))[-len(texts) :]
    if len(newest) == len(texts) and all(map(_holds, newest, texts)):
        return WrittenView(tuple(newest), call.settings_source, steps, written=False)
    now = datetime.now(UTC)
    paths = tuple(
        # The CLI runs them in the order of their times, each in its own transaction.
        _numbered(migrations / f"{now + timedelta(seconds=number - 1):%Y%m%d%H%M%S}_usersync.sql", number)
        for number in range(1, len(texts) + 1)
    )
    for path, text in zip(paths, texts, strict=True):
        _write(path, text, exclusively=True)
    return WrittenView(paths, call.settings_source, steps)


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
