"""Liveness, readiness and metrics of a worker over HTTP."""

from __future__ import annotations

import http.client
import socket
import threading
from contextlib import ExitStack

import pytest
from working import wait_for

from proxy import Proxy
from usersync import Handlers
from usersync.errors import SettingsError
from usersync.worker import health
from usersync.worker import worker as module
from usersync.worker.health import HealthServer

pytestmark = pytest.mark.newest_server


def ask(server, path):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.slow
def test_livez_reports_a_hung_worker_and_readyz_an_unreachable_database(working, tmp_path, monkeypatch):
    handlers, inside, proceed = Handlers(), threading.Event(), threading.Event()

    @handlers.on("a.b")
    def handle(event):
        inside.set()
        proceed.wait(110)

    working.register(handlers)
    info = working.owner.info
    with Proxy(info.host, info.port) as proxy:
        dsn = proxy.through(working.dsn) + "?connect_timeout=2&tcp_user_timeout=1000"
        worker = working.new(handlers, dsn, lease=2.0)
        with HealthServer(worker, working.dsn, ("127.0.0.1", 0), spool_dir=tmp_path, max_age=0) as server:
            with pytest.raises(
                SettingsError, match=f"cannot listen at 127.0.0.1:{server.port}: Address already"
            ):
                HealthServer(worker, working.dsn, ("127.0.0.1", server.port), spool_dir=tmp_path)
            assert ask(server, "/livez") == (200, "ok\n")
            assert ask(server, "/readyz") == (503, "the leases could not be renewed yet\n")
            worker.start()
            wait_for(lambda: ask(server, "/readyz") == (200, "ok\n"), "the worker to be ready")
            working.record(1)
            assert inside.wait(90)
            status, text = ask(server, "/metrics")
            assert (status, "usersync_up 1.0" in text) == (200, True)
            assert 'usersync_subscription_workers{subscription="handle"} 1.0' in text
            assert ask(server, "/elsewhere")[0] == 404

            proxy.silent.set()
            wait_for(lambda: ask(server, "/readyz")[0] == 503, "the worker to be not ready")
            assert ask(server, "/livez") == (200, "ok\n")
            monkeypatch.setattr(module, "_HANGS_S", 0)
            monkeypatch.setattr(worker, "_lease", 0.0)
            assert "has hung for" in ask(server, "/livez")[1]
            monkeypatch.undo()
            proxy.silent.clear()
            # The proxy has dropped statements. Their sessions would never end, so end them here.
            working.owner.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and usename = current_user and pid <> pg_backend_pid()"
            )
            wait_for(lambda: ask(server, "/readyz") == (200, "ok\n"), "the worker to be ready again")

            worker.stop()
            assert ask(server, "/readyz") == (503, "the worker is stopping\n")
            assert ask(server, "/livez") == (200, "ok\n")
            proceed.set()
            worker.close()


def test_slow_clients_do_not_block_probes(working, tmp_path, monkeypatch):
    monkeypatch.setattr(health, "MOST_CONNECTIONS", 3)
    with (
        HealthServer(working.new(None), working.dsn, ("127.0.0.1", 0), spool_dir=tmp_path) as server,
        ExitStack() as stack,
    ):
        slow = []
        for _ in range(6):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 30))
            client.sendall(b"GET /livez HTTP/1.1\r\nX: ")
            slow.append(client)
        assert ask(server, "/livez") == (200, "ok\n")
        # All connections except the last two are closed.
        for client in slow[:-2]:
            assert client.recv(1) == b""
        slow[-1].sendall(b"y\r\n\r\n")
        assert slow[-1].recv(100).startswith(b"HTTP/1.0 200")
