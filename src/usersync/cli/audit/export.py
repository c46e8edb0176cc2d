"""``usersync audit export``: events written out, however many there are, in the memory that a page takes."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from usersync.cli.audit.filters import filter_options
from usersync.cli.audit.formats import FORMATS, open_writer
from usersync.cli.audit.resuming import resumed
from usersync.cli.options import Call, common_options, examples
from usersync.cli.output import on_terminal
from usersync.cli.text import count, good

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from usersync.audit.models import EventFilter
    from usersync.cli.output import View

_PAGE = 200


@dataclass(frozen=True)
class ExportView:
    """How much was written, and where to."""

    events: int
    output: Path
    target: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - a path is never broken
        yield f"{good('Done:')} {count(self.events, 'event')} in {self.output}"

    def data(self) -> dict[str, Any]:
        return {"database": self.target, "events": self.events, "output": self.output}


@click.command(
    epilog=examples(
        ("usersync audit export --since 30d --output audit.jsonl", "a month"),
        ("usersync audit export --output audit.jsonl --resume", "what is new"),
        ("usersync audit export --format csv > audit.csv", "everything"),
        ("usersync audit export --format parquet --output audit.parquet", "for analysis"),
    )
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default=FORMATS[0],
    show_default=True,
    help="What to write.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to. The file takes its name when it is complete. Default: standard output.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Append to FILE the events after its last one (JSON Lines only).",
)
@filter_options
@common_options
def export(call: Call, wanted: EventFilter, format_: str, output: Path | None, resume: bool) -> View | None:
    """Write events out: JSON Lines, CSV or Parquet.

    The oldest first, as of one moment, in as little memory for ten million events as for ten. changes and
    metadata are JSON in CSV and in Parquet. In CSV, what a spreadsheet would take for a formula begins with
    an apostrophe; JSON Lines have it as it is. Parquet needs pyarrow (the extra `parquet`).

    With --resume the file grows in place. It does not find events that happened before the last one in the
    file and were recorded after it.
    """
    if format_ == "parquet" and output is None and on_terminal():
        raise click.UsageError("Parquet is no text for a terminal: add --output FILE")
    if resume and (output is None or format_ != "jsonl"):
        raise click.UsageError("--resume goes on with a file of JSON Lines: add --output FILE")
    from usersync.audit import reading  # noqa: PLC0415 - only when it is wanted
    from usersync.transports.run import run  # noqa: PLC0415 - a driver, which --help can do without

    shown = output is None and on_terminal()
    with (
        call.connection() as connection,
        _destination(call, output, resume=resume) as (sink, last),
        open_writer(format_, sink, for_terminal=shown) as write,
    ):
        written = run(reading.each_page(wanted, write, size=_PAGE, after=last), connection)
    return ExportView(written, output, call.target) if output else None


@contextmanager
def _destination(call: Call, output: Path | None, *, resume: bool) -> Iterator[tuple[BinaryIO, UUID | None]]:
    if resume and output is not None:
        with resumed(output) as (file, last):
            yield file, last
    else:
        with call.output.sink(output) as sink:
            yield sink, None
