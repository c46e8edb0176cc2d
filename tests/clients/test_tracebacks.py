"""Error trackers print the local variables of traceback frames. None may contain the database's password."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import usersync
from usersync import AsyncUserSync, AuditLog, UserSync
from usersync.errors import UsersyncError

pytestmark = pytest.mark.newest_server

SECRET = "the-secret-word"  # noqa: S105
LIBRARIES = (Path(usersync.__file__).parent, Path(psycopg.__file__).parent)

#: Connection strings whose error is noticed only when a connection is opened.
UNREACHABLE = {
    "password": {"password": SECRET},
    "port": {"port": "1"},
    "host": {"host": "no-such-host.invalid"},
    "label": {"host": "a" * 70 + ".invalid"},
    "two hosts": {"host": "127.0.0.1,127.0.0.1", "port": "1,1"},
    "option": {"sslmode": "bogus"},
}
#: Connection strings that are rejected at once.
UNREADABLE = {
    "at sign": f"postgresql://u:{SECRET}@x@h/d",
    "port": f"postgresql://u:{SECRET}@h:port/d",
    "scheme": f"mysql://u:{SECRET}@h/d",
    "NUL": f"postgresql://u:{SECRET}\0@h/d",
    "key": f"postgresql://u:{SECRET}@h/d?nonsense=1",
    "placeholder": f"postgresql://u:{SECRET}@h/[YOUR-PASSWORD]",
}


def frames_of(error, seen=()):
    """The frames of an error and of its causes, in usersync's code and in the driver's."""
    if error is None or error in seen:
        return
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if any(path in Path(frame.f_code.co_filename).parents for path in LIBRARIES):
            yield frame
        traceback = traceback.tb_next
    for each in (error.__cause__, error.__context__):
        yield from frames_of(each, (*seen, error))


def assert_no_secret_in(error):
    frames = list(frames_of(error))
    assert frames
    for frame in frames:
        for name, value in frame.f_locals.items():
            shown = value if isinstance(value, str) else repr(value)
            assert SECRET not in shown, f"{name} in {frame.f_code.co_qualname}"
    assert not re.search(SECRET, f"{error} {error!r}")


def ask(dsn):
    UserSync(dsn).user_exists("00000000-0000-0000-0000-000000000007")


def status(dsn):
    UserSync(dsn).status()


def ask_async(dsn):
    asyncio.run(AsyncUserSync(dsn).user_exists("00000000-0000-0000-0000-000000000007"))


@pytest.fixture
def dsn(request, database):
    parts = conninfo_to_dict(database.dsn()) | {"password": SECRET, "connect_timeout": "2"}
    return make_conninfo(**parts | UNREACHABLE[request.param])


@pytest.mark.parametrize("dsn", UNREACHABLE, indirect=True)
@pytest.mark.parametrize("call", [ask, status, ask_async], ids=lambda call: call.__name__)
def test_a_failed_connection_shows_no_password(dsn, call):
    with pytest.raises(UsersyncError) as caught:
        call(dsn)
    assert_no_secret_in(caught.value)


@pytest.mark.parametrize("dsn", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("make", [UserSync, AsyncUserSync, AuditLog], ids=lambda make: make.__name__)
def test_a_rejected_connection_string_shows_no_password(dsn, make):
    with pytest.raises(UsersyncError) as caught:
        make(dsn)
    assert_no_secret_in(caught.value)


def test_a_rejected_connection_string_in_the_environment_shows_no_password(monkeypatch):
    monkeypatch.setenv("SUPABASE_DB_URL", UNREADABLE["at sign"])
    for make in (UserSync, AsyncUserSync, AuditLog):
        with pytest.raises(UsersyncError) as caught:
            make.from_env()
        assert_no_secret_in(caught.value)


def test_a_call_cancelled_while_it_connects_shows_no_password(silent):
    """The time-out's error has the cancellation as its cause, which has the driver's frames."""

    async def main():
        async with asyncio.timeout(0.2):
            await AsyncUserSync(silent).user_exists("00000000-0000-0000-0000-000000000007")

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(main())
    assert_no_secret_in(caught.value)


@pytest.fixture
def silent():
    """The DSN of a server that accepts a connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql://u:{SECRET}@127.0.0.1:{server.getsockname()[1]}/d"


def test_a_connection_lost_during_a_call_shows_no_password(project):
    dsn = make_conninfo(project.database.dsn(), application_name="victim")
    password = conninfo_to_dict(dsn)["password"]
    project.owner.execute(
        "create or replace function public.user_sync_status() returns jsonb language plpgsql as "
        "'begin perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(5); return null; end'"
    )
    with pytest.raises(UsersyncError) as caught:
        UserSync(dsn).status()
    for frame in frames_of(caught.value):
        assert not any(password in repr(value) for value in frame.f_locals.values()), frame.f_code.co_qualname
