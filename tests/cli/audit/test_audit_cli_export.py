from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from waiting import until

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


def test_json_lines_are_printed_oldest_first(many):
    done = many("export")
    assert (done.code, done.err) == (0, "")
    events = [json.loads(line) for line in done.out.splitlines()]
    assert numbers(events) == list(range(1_234, 0, -1))
    assert set(events[0]) >= {"id", "occurred_at", "action", "metadata"}
    assert "tie" not in events[0]


def test_csv_is_written_to_a_file(many, directory):
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
def test_parquet_is_written_to_a_file(many, directory):
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
    assert "pip install pyarrow" in done.err
    assert list(directory.glob("*out.parquet*")) == []


def test_parquet_is_refused_on_a_terminal(many, monkeypatch):
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


def test_a_failed_export_keeps_the_old_file(many, directory, monkeypatch):
    (directory / "out.csv").write_text("before")
    monkeypatch.setattr("usersync.audit.formats._flat", lambda _: 1 / 0)
    assert many("export", "--format", "csv", "--output", "out.csv").code == 1
    assert (directory / "out.csv").read_text() == "before"
    assert len(list(directory.glob("*out.csv*"))) == 1


def test_a_closed_pipe_ends_the_export_quietly(many, spawn):
    many.project.owner.execute(MANY, [5_000])
    process = spawn("audit", "export", "--dsn", many.project.database.dsn())
    assert json.loads(process.stdout.readline())
    process.stdout.close()
    assert process.wait(timeout=90) == 141
    assert process.stderr.read() == ""


def test_a_new_file_is_private_and_an_existing_one_keeps_its_mode(many, directory):
    for mode in (0o600, 0o640):
        assert many("export", "--output", "out.jsonl").code == 0
        assert stat.S_IMODE((directory / "out.jsonl").stat().st_mode) == mode
        (directory / "out.jsonl").chmod(0o640)


def test_a_path_that_is_not_a_regular_file_is_written_directly(many, directory):
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


@pytest.mark.slow
def test_a_full_disk_is_reported(many, spawn):
    full = Path("/dev/full")
    if not full.is_char_device():
        pytest.skip("there is no /dev/full")
    done = many("export", "--output", full)
    assert done.code == 2
    assert "cannot write /dev/full: No space left on device" in done.err
    assert full.is_char_device()
    for command in ("export", "stats"):
        with full.open("w") as out:
            process = spawn("audit", command, "--dsn", many.project.database.dsn(), stdout=out)
            _, said = process.communicate(timeout=90)
        assert process.returncode == 2, command
        assert "cannot write the output: No space left on device" in said
        assert "US000" not in said


def test_no_csv_cell_is_a_spreadsheet_formula(audited):
    for action in ("=1+1", "+1", "-1", "@SUM(1)", "plain"):
        audited.project.owner.execute(
            "select public.record_audit_events(jsonb_build_array(jsonb_build_object('action', %s::text)))",
            [action],
        )
    rows = csv.DictReader(io.StringIO(audited("export", "--format", "csv").out))
    assert {row["action"] for row in rows} == {"'=1+1", "'+1", "'-1", "'@SUM(1)", "plain"}


def ids(path):
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_resume_continues_an_interrupted_export(many, directory):
    assert many("export", "--output", "whole.jsonl").code == 0
    whole = directory / "whole.jsonl"
    content = whole.read_bytes()
    cut = directory / "cut.jsonl"
    # The interruption is within a line, between two lines, before the first one, or at the end.
    for length in (len(content) // 2, content.index(b"\n", 1_000) + 1, 10, 0, len(content)):
        cut.write_bytes(content[:length])
        done = many("export", "--output", "cut.jsonl", "--resume", "--json")
        assert done.code == 0
        assert cut.read_bytes() == content
    assert done.json["events"] == 0
    many.record("one.more")
    assert many("export", "--output", "cut.jsonl", "--resume", "--json").json["events"] == 1
    assert ids(cut)[:-1] == ids(whole)
    assert many("export", "--output", "new.jsonl", "--resume").code == 0
    assert stat.S_IMODE((directory / "new.jsonl").stat().st_mode) == 0o600


def test_resume_refuses_a_file_that_is_not_an_export(many, directory):
    (directory / "notes.jsonl").write_text("my notes\n")
    done = many("export", "--output", "notes.jsonl", "--resume")
    assert (done.code, "is not an event" in done.err) == (1, True)
    (directory / "notes.jsonl").write_text('{"id": "00000000-0000-4000-8000-000000000000"}\n')
    done = many("export", "--output", "notes.jsonl", "--resume")
    assert (done.code, "has no event" in done.err) == (1, True)
    assert (directory / "notes.jsonl").read_text().count("\n") == 1
    for wrong in (["--format", "csv", "--output", "x.csv"], []):
        assert many("export", "--resume", *wrong).code == 2


@pytest.mark.slow
def test_a_killed_export_leaves_no_file(many, spawn, directory):
    many.project.owner.execute(MANY, [50_000])
    process = spawn(
        "audit", "export", "--output", str(directory / "out.jsonl"), "--dsn", many.project.database.dsn()
    )
    started = (
        "select count(*) from pg_stat_activity where datname = current_database() and query like 'fetch%%'"
    )
    until(lambda: many.project.owner.execute(started).fetchone()[0] or process.poll() is not None)
    process.kill()
    process.wait(90)
    assert [
        each.name for each in directory.iterdir() if "out.jsonl" in each.name and each.name != "out.jsonl"
    ] == []


@pytest.mark.slow
def test_a_closed_standard_output_is_reported(many, directory):
    command = [sys.executable, "-m", "usersync", "audit", "export", "--dsn", many.project.database.dsn()]
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "standard output is closed" in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")
def test_parquet_has_large_row_groups(many, directory, monkeypatch):
    monkeypatch.setattr("usersync.audit.formats.ROW_GROUP", 1_000)
    parquet = importlib.import_module("pyarrow.parquet")
    assert many("export", "--format", "parquet", "--output", "out.parquet").code == 0
    file = parquet.ParquetFile(directory / "out.parquet")
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [1_000, 234]
    assert file.metadata.num_rows == 1_234
