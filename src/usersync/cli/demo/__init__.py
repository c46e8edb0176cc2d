"""``usersync demo``: shows what usersync does on an embedded PostgreSQL, and checks each step."""

from __future__ import annotations

import shlex
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.console import require_console, serve_console
from usersync.cli.options import Call, examples, output_options
from usersync.cli.output import can_ask, on_terminal
from usersync.cli.text import align, bold, duration, faint, good, typed, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from usersync.cli.demo.environment import DemoEnvironment
    from usersync.cli.output import Output, View

_WIDTH = 80
_INDENT = "    "

_NEXT = (
    ('SUPABASE_DB_URL="postgresql://…"', "a line of .env.local: your connection string"),
    ("usersync init", "inspect your tables, and write usersync.toml"),
    ("usersync plan", "what would change, and what prevents it"),
    ("usersync apply", "install, and sync the existing users"),
    ("usersync doctor", "run all checks"),
)


@dataclass(frozen=True)
class DemoView:
    """The summary of the demo. With ``--json``, the whole demo."""

    steps: tuple[dict[str, Any], ...]
    seconds: float
    kept: dict[str, str] | None
    #: Whether the server keeps running after the summary.
    served: bool = False
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        if self.steps:
            summary = f"{len(self.steps)} steps in {duration(self.seconds)}. Each result was checked."
            yield f"{good('✓')} {bold(summary)}"
            yield ""
            yield "For your own project:"
            yield from (f"  {typed(step)}\n      {faint(what)}" for step, what in _NEXT[:1])
            yield from align([(typed(step), faint(what)) for step, what in _NEXT[1:]], indent="  ")
        if self.kept:
            yield ""
            yield from wrap(f"The database is kept in {self.kept['directory']}.", width)
            if self.served:
                yield f"  {typed('psql ' + self.kept['url'])}"
            else:
                yield from wrap(
                    "Its server stops with this command. To start it again, run on a terminal:", width
                )
                yield f"  {typed('usersync demo --keep ' + shlex.quote(self.kept['directory']))}"

    def data(self) -> dict[str, Any]:
        return {"ok": True, "seconds": round(self.seconds, 1), "steps": self.steps, "kept": self.kept}


@click.command(
    epilog=examples(
        ("usersync demo", "takes seconds, leaves nothing behind"),
        ("usersync demo --console", "then shows its database in the browser"),
        ("usersync demo --keep ./demo", "keeps the database, for psql"),
    )
)
@click.option(
    "--keep",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the database in DIR. On a terminal, its server then runs until Ctrl-C. The same command "
    "starts it again.",
)
@click.option("--console", is_flag=True, help="Then serve the console for its database until Ctrl-C.")
@output_options
def demo(call: Call, directory: Path | None, *, console: bool) -> View | None:
    """Show in seconds what usersync does, on an embedded database.

    Starts a PostgreSQL server with a database like a Supabase project's. Shows the problem, the hand-written
    trigger, the installation, sign-ups, a broken schema, the repair and a deletion. Each step really runs and
    is checked. Exit code 1 if a result is not the expected one.
    """
    from usersync.cli.demo.environment import open_environment  # noqa: PLC0415 - a driver, which --help does not need

    if console:
        require_console()
    began = time.monotonic()
    call.output.tell(faint("Starting PostgreSQL …")) if on_terminal(err=True) else None
    with open_environment(directory) as (env, complete):
        steps = () if complete else tuple(_run_steps(env, call.output))
        kept = {"directory": str(directory), "url": env.url} if directory else None
        served = console or (
            directory is not None and not call.output.as_json and can_ask() and on_terminal()
        )
        view = DemoView(steps, time.monotonic() - began, kept, served)
        if not served:
            return view
        call.output.show(view)
        if console:
            serve_console(call.output, env.url, env.target, allow_actions=True)
        else:
            _serve(call.output)
    return None


def _run_steps(env: DemoEnvironment, output: Output) -> Iterator[dict[str, Any]]:
    from usersync.cli.demo.steps import STEPS  # noqa: PLC0415 - only if used

    width = min(output.width, _WIDTH) - len(_INDENT)
    say = _spaced(output)
    say([bold(f"usersync on PostgreSQL {env.server_version}, in a database shaped like Supabase's")])
    for number, (heading, step) in enumerate(STEPS, 1):
        say(["", f"{good(str(number))}   {bold(heading)}", ""])
        events = []
        for event in step(env, width):
            say(f"{_INDENT}{line}".rstrip() for line in event.lines(width))
            events.append(event.data())
        yield {"step": number, "title": heading, "events": events}
    say([""])


def _spaced(output: Output) -> Callable[[Iterable[str]], None]:
    """Return a function that prints lines, and merges several blank lines into one."""
    last = ""

    def say(lines: Iterable[str]) -> None:
        nonlocal last
        for line in lines:
            if line or last:
                output.say(line)
            last = line

    return say


def _serve(output: Output) -> None:
    """Keep the server running until Ctrl-C."""
    output.say("", "The server runs until you press Ctrl-C.")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        output.tell("")
