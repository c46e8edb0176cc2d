"""``usersync demo``: the whole story on a PostgreSQL of its own; told, and checked, as it happens."""

from __future__ import annotations

import shlex
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, examples, output_options
from usersync.cli.output import can_ask, on_terminal
from usersync.cli.text import align, bold, duration, faint, good, typed, wrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from usersync.cli.demo.stage import Stage
    from usersync.cli.output import Output, View

_WIDTH = 80
_INDENT = "    "

_NEXT = (
    ('export SUPABASE_DB_URL="postgresql://…"', "the connection string of your project"),
    ("usersync init", "look at your tables, and write usersync.toml"),
    ("usersync plan", "what would change, and what stands in the way"),
    ("usersync apply", "install, and bring in the users that exist already"),
    ("usersync doctor", "check that everything holds"),
)


@dataclass(frozen=True)
class DemoView:
    """The end of the demo; with ``--json`` all of it."""

    steps: tuple[dict[str, Any], ...]
    seconds: float
    kept: dict[str, str] | None
    #: Whether the server goes on running after this was shown.
    served: bool = False
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:
        if self.steps:
            told = f"{len(self.steps)} steps in {duration(self.seconds)}, each checked as it was told."
            yield f"{good('✓')} {bold(told)}"
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
                yield from wrap("Its server ends with this command. To start it again, on a terminal:", width)
                yield f"  {typed('usersync demo --keep ' + shlex.quote(self.kept['directory']))}"

    def data(self) -> dict[str, Any]:
        return {"ok": True, "seconds": round(self.seconds, 1), "steps": self.steps, "kept": self.kept}


@click.command(
    epilog=examples(
        ("usersync demo", "takes seconds, leaves nothing behind"),
        ("usersync demo --keep ./demo", "keeps the database, to look at with psql"),
    )
)
@click.option(
    "--keep",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the database there. On a terminal its server then runs until Ctrl-C, and the same command "
    "starts it again.",
)
@output_options
def demo(call: Call, directory: Path | None) -> View | None:
    """The whole story in seconds, on a database of its own.

    Starts a PostgreSQL shaped like a Supabase project, and shows the problem, the usual cure, the
    installation, sign-ups, a broken schema, the repair, a deletion. Every line really happens, and is
    checked: exit code 1 if anything does not turn out as told.
    """
    from usersync.cli.demo.stage import open_stage  # noqa: PLC0415 - a driver, which --help can do without

    began = time.monotonic()
    call.output.tell(faint("Starting PostgreSQL …")) if on_terminal(err=True) else None
    with open_stage(directory) as (stage, complete):
        steps = () if complete else tuple(_tell(stage, call.output))
        kept = {"directory": str(directory), "url": stage.url} if directory else None
        served = directory is not None and not call.output.as_json and can_ask() and on_terminal()
        view = DemoView(steps, time.monotonic() - began, kept, served)
        if not served:
            return view
        call.output.show(view)
        _serve(call.output)
    return None


def _tell(stage: Stage, output: Output) -> Iterator[dict[str, Any]]:
    from usersync.cli.demo.story import STEPS  # noqa: PLC0415 - likewise

    width = min(output.width, _WIDTH) - len(_INDENT)
    say = _spaced(output)
    say([bold(f"usersync on PostgreSQL {stage.server_version}, in a database shaped like Supabase's")])
    for number, (heading, step) in enumerate(STEPS, 1):
        say(["", f"{good(str(number))}   {bold(heading)}", ""])
        events = []
        for event in step(stage, width):
            say(f"{_INDENT}{line}".rstrip() for line in event.lines(width))
            events.append(event.data())
        yield {"step": number, "title": heading, "events": events}
    say([""])


def _spaced(output: Output) -> Callable[[Iterable[str]], None]:
    """Return what says lines, and of several blank lines in a row only the first."""
    last = ""

    def say(lines: Iterable[str]) -> None:
        nonlocal last
        for line in lines:
            if line or last:
                output.say(line)
            last = line

    return say


def _serve(output: Output) -> None:
    """Keep the server running until Ctrl-C, which is the usual end and no interruption."""
    output.say("", "The server runs until you press Ctrl-C.")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        output.tell("")
