"""Errors of connection strings, of the database and of the output: messages and exit codes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

SECRET = "s3cr3t-Pa55"  # noqa: S105 - this is what must not be shown


@pytest.fixture
def addresses(database):
    """Connection strings that fail, each with another error."""
    right = f"postgresql://postgres:{database.passwords['postgres']}@{database.host}:{database.port}"
    with socket.socket() as bound:  # The port is taken, and nobody listens.
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        yield {
            "password": f"postgresql://postgres:{SECRET}@{database.host}:{database.port}/{database.name}",
            "user": f"postgresql://nobody:{SECRET}@{database.host}:{database.port}/{database.name}",
            "database": f"{right}/no_such_database",
            "host": f"postgresql://postgres:{SECRET}@no-such-host.invalid/postgres",
            "port": f"postgresql://postgres:{SECRET}@127.0.0.1:{port}/postgres",
        }


@pytest.mark.newest_server
@pytest.mark.parametrize("command", ["status", "plan", "sync", "failures", "retry"])
def test_an_unreachable_database_gives_exit_code_3(usersync, addresses, command):
    for address in addresses.values():
        done = usersync(command, "--dsn", address)
        assert done.code == 3, done.err
        assert "error US201: cannot connect to" in done.err
        assert "hint:" in done.err
        assert SECRET not in done.out + done.err


@pytest.mark.newest_server
def test_verbose_shows_the_cause_and_no_password(usersync, addresses):
    done = usersync("status", "--verbose", "--dsn", addresses["password"])
    assert "OperationalError" in done.err
    assert SECRET not in done.err


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (f"https://user:{SECRET}@abc.supabase.co", "HTTP URL"),
        (f"postgresql://postgres.ref:{SECRET}@[YOUR-PASSWORD]@host/postgres", "[YOUR-PASSWORD]"),
        ("postgresql://postgres:[YOUR-PASSWORD]@db.abc.supabase.co:5432/postgres?sslmode=require", "[YOUR-"),
        (f"postgresql://post gres:{SECRET}@host/%zz", "cannot be read"),
        (f"garbage {SECRET}", "cannot be read"),
        ("", "--dsn is empty"),
        ("   ", "--dsn is empty"),
    ],
)
def test_an_invalid_connection_string_gives_exit_code_2(usersync, monkeypatch, address, words):
    monkeypatch.setenv("DATABASE_URL", "postgresql://never@used.invalid/x")
    done = usersync("status", "--dsn", address)
    assert done.code == 2
    assert "error US101" in done.err
    assert words in done.err
    assert SECRET not in done.err
    in_json = usersync("status", "--json", "--dsn", address)
    assert (in_json.code, in_json.err, in_json.json["error"]["code"]) == (2, "", "US101")
    assert SECRET not in in_json.out


def test_without_a_connection_string_the_error_names_its_sources(usersync):
    done = usersync("status")
    assert done.code == 2
    assert "SUPABASE_DB_URL" in done.err
    assert ".env.local" in done.err


def test_invalid_settings_give_exit_code_2(usersync, directory):
    (directory / "usersync.toml").write_text('on_delet = "keep"')
    done = usersync("sql")
    assert done.code == 2
    assert "usersync.toml: unknown setting 'on_delet'" in done.err
    assert "Did you mean 'on_delete'?" in done.err
    assert usersync("sql", "--config", "none.toml").code == 2


@pytest.mark.newest_server
def test_without_an_installation_the_error_says_so(usersync, database):
    for command in ("status", "failures", "retry", "sync"):
        done = usersync(command, "--dsn", database.dsn())
        assert done.code == 1
        assert "error US301" in done.err
        assert "usersync apply" in done.err


@pytest.mark.newest_server
def test_a_role_without_privileges_gets_an_error(usersync, project):
    done = usersync("status", "--dsn", project.database.dsn("anon"), "--json")
    assert done.code == 1
    assert done.json["error"]["code"] in {"US202", "US301"}


def test_an_unexpected_exception_is_reported_without_a_traceback(usersync, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("oh \x1b[2J no")

    monkeypatch.setattr("usersync.cli.sql.install_script", broken)
    done = usersync("sql")
    assert done.code == 1
    assert "Traceback" not in done.err
    assert "bug in usersync" in done.err
    assert "\x1b" not in done.err
    assert "Traceback" in usersync("sql", "--verbose").err


def test_a_closed_pipe_ends_the_command_quietly(spawn):
    process = spawn("sql")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(90) == 141


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_cause_no_error(closed, tmp_path):
    for arguments, code in (("sql", 0), ("apply --dsn postgresql://h/d", 2)):
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" -m usersync {arguments} {closed}', sys.executable],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code
        assert "Traceback" not in done.stderr


def test_characters_outside_the_terminals_encoding_are_escaped(spawn):
    process = spawn("failures", "--dsn", "ünï", env={"PYTHONIOENCODING": "ascii"})
    _, err = process.communicate(timeout=90)
    assert process.returncode == 2
    assert "Traceback" not in err


def test_ctrl_c_while_connecting_ends_the_command_quietly(spawn):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        process = spawn("status", "--dsn", f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/x")
        accepted, _ = silent.accept()  # the command waits for an answer that never arrives
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=90)
        accepted.close()
    assert process.returncode == 130
    assert "Traceback" not in err


def test_an_error_during_clean_up_after_ctrl_c_is_not_reported(usersync, monkeypatch):
    def interrupted(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise OSError("the connection went with it")

    monkeypatch.setattr("usersync.cli.sql.install_script", interrupted)
    done = usersync("sql")
    assert (done.code, done.out, done.err) == (130, "", "")
