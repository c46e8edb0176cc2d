"""``usersync audit export``: exports any number of events, with one page in memory at a time."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from usersync.audit.formats import FORMATS, open_writer
from usersync.cli.audit.filters import filter_options
from usersync.cli.audit.resumable_file import open_for_append
from usersync.cli.options import Call, common_options, examples
from usersync.cli.output import on_terminal
from usersync.cli.text import count, good, plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from usersync.audit.models import EventFilter
    from usersync.cli.output import View

_PAGE = 200


@dataclass(frozen=True)
class ExportView:
    """The number of exported events, and the file."""

    events: int
    output: Path
    target: str
    exit_code: int = 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - a path is never wrapped
        yield f"{good('Done:')} {count(self.events, 'event')} in {self.output}"

    def data(self) -> dict[str, Any]:
        return {"database": self.target, "events": self.events, "output": self.output}


@click.command(
    epilog=examples(
        ("usersync audit export --since 30d --output audit.jsonl", "30 days"),
        ("usersync audit export --output audit.jsonl --resume", "new events"),
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
    help="Output format.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Output file. It gets its name when it is complete. Default: standard output.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Append the events after the last one in FILE (JSON Lines only).",
)
@filter_options
@common_options
def export(call: Call, wanted: EventFilter, format_: str, output: Path | None, resume: bool) -> View | None:
    """Export events as JSON Lines, CSV or Parquet.

    Exports the oldest event first, from one snapshot of the log. Memory use does not depend on the number of
    events. In CSV and Parquet, changes and metadata are JSON. In CSV, a value that a spreadsheet would run as
    a formula gets an apostrophe in front. Parquet requires pyarrow (the extra `parquet`).

    --resume appends to the file in place. It does not export events that happened before the last one in the
    file but were recorded later.
    """
    if format_ == "parquet" and output is None and on_terminal():
        raise click.UsageError("Parquet is a binary format: add --output FILE")
    if resume and (output is None or format_ != "jsonl"):
        raise click.UsageError("--resume requires a file of JSON Lines: add --output FILE")
    from usersync.audit import reading  # noqa: PLC0415 - only if used
    from usersync.transports.run import run  # noqa: PLC0415 - a driver, which --help does not need

    shown = output is None and on_terminal()
    with (
        call.connection() as connection,
        _destination(call, output, resume=resume) as (sink, last),
        open_writer(format_, sink, cell=plain if shown else str) as write,
    ):
        written = run(reading.each_page(wanted, write, size=_PAGE, after=last), connection)
    return ExportView(written, output, call.target) if output else None


@contextmanager
def _destination(call: Call, output: Path | None, *, resume: bool) -> Iterator[tuple[BinaryIO, UUID | None]]:
    if resume and output is not None:
        with open_for_append(output) as (file, last):
            yield file, last
    else:
        with call.output.sink(output) as sink:
            yield sink, None
