from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import sys
import threading

import pytest

pytestmark = pytest.mark.newest_server

MANY = """
    insert into public.audit_logs (id, occurred_at, action, outcome, actor_type, source, changes, metadata)
    select gen_random_uuid(), now() - number * interval '1 second', 'bulk.made', 'succeeded', 'system', 'app',
        jsonb_build_object('n', jsonb_build_array(null, number)), jsonb_build_object('note', repeat('x', 200))
    from generate_series(1, %s) as number
"""


@pytest.fixture
def many(audited):
    audited.project.owner.execute(MANY, [1_234])
    return audited


def numbers(events):
    return [event["changes"]["n"][1] for event in events]


def test_json_lines_to_standard_output_the_oldest_first(many):
    done = many("export")
    assert (done.code, done.err) == (0, "")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert numbers(events) == list(range(1_234, 0, -1))
    assert set(events[0]) >= {"id", "occurred_at", "action", "metadata"}
    assert "tie" not in events[0]


def test_csv_into_a_file(many, directory):
    done = many("export", "--format", "csv", "--output", "out.csv", "--since", "1000s")
    assert done.code == 0
    assert "events in out.csv" in done.out
    rows = list(csv.DictReader(io.StringIO((directory / "out.csv").read_text())))
    assert 900 < len(rows) <= 1_000
    assert json.loads(rows[-1]["changes"]) == {"n": [None, 1]}
    assert rows[-1]["user_id"] == ""
    assert (directory / "out.csv").stat().st_mode & 0o777 == 0o600
    assert [each.name for each in directory.iterdir() if each.suffix == ".part"] == []


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")
def test_parquet(many, directory):
    parquet = importlib.import_module("pyarrow.parquet")
    done = many("export", "--format", "parquet", "--output", "out.parquet", "--json")
    assert done.json["events"] == 1_234
    table = parquet.read_table(directory / "out.parquet")
    assert str(table.schema.field("occurred_at").type) == "timestamp[us, tz=UTC]"
    rows = table.to_pylist()
    assert [json.loads(row["changes"])["n"][1] for row in rows] == list(range(1_234, 0, -1))


def test_parquet_without_pyarrow_says_what_to_install(many, directory, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = many("export", "--format", "parquet", "--output", "out.parquet")
    assert done.code == 2
    assert "pip install 'usersync[parquet]'" in done.err
    assert list(directory.glob("*out.parquet*")) == []


def test_parquet_is_not_for_a_terminal(many, monkeypatch):
    monkeypatch.setattr("usersync.cli.audit.export.on_terminal", lambda: True)
    done = many("export", "--format", "parquet")
    assert done.code == 2
    assert "--output FILE" in done.err


def test_an_empty_export_is_a_valid_file(audited, directory):
    assert audited("export").out == ""
    assert audited("export", "--format", "csv").out.startswith("id,occurred_at,")


def test_a_file_that_cannot_be_written_is_named(many, directory):
    done = many("export", "--output", "nowhere/out.jsonl")
    assert done.code == 2
    assert "cannot write nowhere/out.jsonl" in done.err


def test_an_export_that_fails_leaves_the_old_file(many, directory, monkeypatch):
    (directory / "out.csv").write_text("before")
    monkeypatch.setattr("usersync.cli.audit.formats._flat", lambda _: 1 / 0)
    assert many("export", "--format", "csv", "--output", "out.csv").code == 1
    assert (directory / "out.csv").read_text() == "before"
    assert len(list(directory.glob("*out.csv*"))) == 1


def test_a_reader_that_has_enough_ends_it(many, spawn):
    many.project.owner.execute(MANY, [5_000])
    process = spawn("audit", "export", "--dsn", many.project.database.dsn())
    assert json.loads(process.stdout.readline())
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == ""


def test_what_is_no_file_is_written_to_as_it_is(many, directory):
    os.mkfifo(directory / "pipe")
    (directory / "link").symlink_to("real.jsonl")
    read = []
    reader = threading.Thread(target=lambda: read.append((directory / "pipe").read_text()))
    reader.start()
    assert many("export", "--output", "pipe").code == 0
    reader.join()
    assert read[0].count("\n") == 1_234
    assert (directory / "pipe").is_fifo()
    assert many("export", "--output", "link").code == 0
    assert (directory / "link").is_symlink()
    assert (directory / "real.jsonl").read_text().count("\n") == 1_234
