"""The options of AuditLog: invalid ones raise at once, with an explanation."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import os
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from usersync import AuditLog
from usersync.audit.options import AuditOptions, Options
from usersync.errors import SettingsError
from usersync.transports.data_api.api import KEY_VARIABLES, OTHER_KEY_VARIABLES

pytestmark = pytest.mark.newest_server


class NotAllowedError(Exception):
    pass


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("durability", "paper", "'spool' or 'memory', not 'paper'"),
        ("durability", ["spool"], "'spool' or 'memory'"),
        ("strict", None, "True or False, not None"),
        ("spool_dir", 5, "a path, not 5"),
        ("spool_dir", "a\0b", "a path"),
        ("project", b"x", "a text"),
        ("redact", "iban", r"words, such as .*, not 'iban'"),
        ("redact", (5,), "words"),
        ("redact", ("--",), "words"),
        ("denied", [NotAllowedError()], "exception classes"),
        ("denied", ("x",), "exception classes"),
        ("denied", NotAllowedError, "exception classes"),
        ("spool_bytes", "1GB", "a whole number from 0 to 1099511627776, not '1GB'"),
        ("memory_events", -1, "a whole number from 0"),
        ("memory_bytes", 1.5, "a whole number"),
        ("event_bytes", 10, "a whole number from 1024"),
        ("batch_events", 0, "a whole number from 1 "),
        ("batch_events", True, "a whole number"),
        ("batch_bytes", None, "a whole number"),
        ("send_timeout", 0, "seconds from 0.1"),
        ("send_timeout", float("nan"), "seconds"),
        ("exit_timeout", float("inf"), "seconds"),
    ],
)
def test_invalid_options_raise_in_the_constructor(option, value, expected):
    with pytest.raises(SettingsError, match=f"{option}: expected {expected}"):
        AuditLog.recording_only(**{option: value})


def test_the_error_for_an_unknown_option_names_it():
    with pytest.raises(TypeError, match="'nosuch'"):
        AuditLog.recording_only(nosuch=1)


def test_the_options_of_all_constructors_and_their_types_agree():
    names = [each.name for each in dataclasses.fields(Options)]
    assert [*inspect.signature(AuditLog).parameters][1:] == names
    assert AuditOptions.__optional_keys__ == set(names)


def test_the_error_without_a_database_names_recording_only(spool_dir):
    with pytest.raises(TypeError):
        AuditLog()
    with pytest.raises(TypeError, match=r"not builtins\.NoneType") as raised:
        AuditLog(None, spool_dir=spool_dir)
    assert "AuditLog.recording_only()" in raised.value.hint
    assert repr(AuditLog.recording_only(spool_dir=spool_dir)) == "<AuditLog: recording only>"


def test_an_unsupported_source_is_refused(store):
    with pytest.raises(
        SettingsError, match=r"expected a connection string, a psycopg_pool.ConnectionPool.* not builtins.int"
    ):
        AuditLog(5)
    with (
        psycopg.connect(store.dsn) as connection,
        pytest.raises(SettingsError, match=r"not psycopg\.Connection") as raised,
    ):
        AuditLog(connection)
    assert "record_in" in raised.value.hint
    with pytest.raises(SettingsError, match="cannot use a pool of asyncio"):
        AuditLog(AsyncConnectionPool(store.dsn, open=False))
    with pytest.raises(SettingsError):
        AuditLog("")


def test_pools_of_two_databases_have_two_spools(spool_dir):
    roots = {
        AuditLog(ConnectionPool("", kwargs={"dbname": name}, open=False), spool_dir=spool_dir)._root
        for name in ("one", "two")
    }
    assert len(roots) == 2


def test_denied_adds_exceptions_with_outcome_denied(make_log, store):
    log = make_log(store.dsn, denied=[NotAllowedError])
    for error in (NotAllowedError, PermissionError, ValueError):
        with pytest.raises(error), log.action(error.__name__):
            raise error
    assert log.flush()
    assert {event["action"]: event["outcome"] for event in store.events()} == {
        "NotAllowedError": "denied",
        "PermissionError": "denied",
        "ValueError": "failed",
    }


@pytest.fixture
def unconfigured(monkeypatch, tmp_path):
    """``AuditLog.from_env()`` at import, without a configured database."""
    for variable in ("SUPABASE_DB_URL", "DATABASE_URL", *KEY_VARIABLES, *OTHER_KEY_VARIABLES):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    return AuditLog.from_env(spool_dir=tmp_path / "spool")


FIRST_USES = {
    "record": lambda log: log.record("a.b"),
    "action": lambda log: log.action("a.b").__enter__(),
    "prepare": lambda log: log.prepare("a.b"),
    "record_in": lambda log: log.record_in(None, "a.b"),
    "flush": lambda log: log.flush(),
    "drain": lambda log: log.drain(),
    "stats": lambda log: log.stats(),
    "search": lambda log: log.search(),
}


@pytest.mark.parametrize("use", FIRST_USES)
def test_from_env_without_a_connection_string_raises_at_the_first_use(unconfigured, use):
    for _ in range(2):
        with pytest.raises(SettingsError, match="no connection string") as raised:
            FIRST_USES[use](unconfigured)
        assert "--dsn" not in f"{raised.value} {raised.value.hint}"
        assert "SUPABASE_DB_URL" in str(raised.value)


def test_from_env_without_a_connection_string_can_be_closed_printed_and_forked(unconfigured):
    assert repr(unconfigured) == "<AuditLog: no database>"
    with pytest.raises(AttributeError, match="no attribute 'recrd'"):
        AuditLog.recording_only().recrd  # noqa: B018
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with unconfigured:
        pass
    assert asyncio.run(unconfigured.aclose())


def test_from_env_reads_the_environment_again_at_the_first_use(unconfigured, store, monkeypatch):
    monkeypatch.setenv("SUPABASE_DB_URL", store.dsn)
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda n: unconfigured.record("a.b", entity=("a", n)), range(40)))
    assert None not in ids
    assert unconfigured.flush()
    assert len(store.ids()) == 40
    assert unconfigured.close()


def test_from_env_refuses_invalid_values_and_options_at_once(unconfigured, monkeypatch):
    with pytest.raises(SettingsError):
        AuditLog.from_env(batch_events=0)
    monkeypatch.setenv("SUPABASE_DB_URL", "nonsense")
    with pytest.raises(SettingsError, match="SUPABASE_DB_URL"):
        AuditLog.from_env()
