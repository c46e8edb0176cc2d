"""Writes events as JSON Lines, CSV and Parquet, page by page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import UUID

from usersync.config.audit_columns import FIELDS
from usersync.config.extras import needed
from usersync.control_characters import inert

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.audit.models import EventRecord

FORMATS = ("jsonl", "csv", "parquet")

#: Rows per row group of Parquet. With 200, the footer of a file with a million events took 7 MB.
ROW_GROUP = 50_000

Write = Callable[[Iterable["EventRecord"]], None]

_JSON_FIELDS = {"changes", "metadata"}
_TIME_FIELDS = {"occurred_at", "recorded_at"}


@contextmanager
def open_writer(name: str, sink: BinaryIO, *, cell: Callable[[Any], str] = str) -> Iterator[Write]:
    """Yield a function that writes events in this format. ``cell`` makes the text of a value of CSV."""
    if name == "parquet":
        with _parquet(sink) as write:
            yield write
    elif name == "csv":
        yield _csv(sink, cell)
    else:
        yield _jsonl(sink)


def _jsonl(sink: BinaryIO) -> Write:
    def write(events: Iterable[EventRecord]) -> None:
        sink.writelines(inert(_dump(event_data(event))).encode() + b"\n" for event in events)

    return write


def _csv(sink: BinaryIO, cell: Callable[[Any], str]) -> Write:
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\r\n")

    def write_row(values: Iterable[Any]) -> None:
        rows.writerow(values)
        sink.write(buffer.getvalue().encode())
        buffer.seek(0)
        buffer.truncate()

    def write(events: Iterable[EventRecord]) -> None:
        for event in events:
            write_row(
                "" if value is None else cell(_escape_formula(value)) for value in _flat(event).values()
            )

    write_row(FIELDS)
    return write


def _escape_formula(value: str) -> str:
    """Put an apostrophe before a value that a spreadsheet would run as a formula."""
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _flat(event: EventRecord) -> dict[str, Any]:
    """The event as a flat row: nested values as JSON, times in ISO 8601."""
    row = event_data(event)
    for name in FIELDS:
        value = row[name]
        if name in _JSON_FIELDS and value is not None:
            row[name] = _dump(value)
        elif name in _TIME_FIELDS and value is not None:
            row[name] = value.isoformat()
        elif isinstance(value, UUID):
            row[name] = str(value)
    return row


def event_data(event: EventRecord) -> dict[str, Any]:
    """The stored fields of an event."""
    data = dict(vars(event))
    del data["tie"]
    return data


def value_text(value: object) -> str:
    """What ``json`` has no type for: a time in ISO 8601, an id as text."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _dump(value: object) -> str:
    return json.dumps(value, default=value_text, ensure_ascii=False, separators=(",", ":"))


@contextmanager
def _parquet(sink: BinaryIO) -> Iterator[Write]:
    with needed("parquet", "--format parquet"):
        pa, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")

    kinds = {name: pa.timestamp("us", tz="UTC") if name in _TIME_FIELDS else pa.string() for name in FIELDS}
    schema = pa.schema(list(kinds.items()))
    # Pages are kept in Arrow's compact form until they fill a row group.
    pages: list[Any] = []
    with parquet.ParquetWriter(sink, schema, compression="zstd") as file:

        def flush() -> None:
            if pages:
                file.write_table(pa.Table.from_batches(pages, schema=schema), row_group_size=ROW_GROUP)
                pages.clear()

        def write(events: Iterable[EventRecord]) -> None:
            rows = [_flat(event) | {name: getattr(event, name) for name in _TIME_FIELDS} for event in events]
            pages.append(pa.RecordBatch.from_pylist(rows, schema=schema))
            if sum(page.num_rows for page in pages) >= ROW_GROUP:
                flush()

        yield write
        flush()
