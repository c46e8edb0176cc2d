"""Answers ``/livez``, ``/readyz`` and ``/metrics`` over HTTP: probes of Kubernetes, and Prometheus."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from usersync.client import UserSync
from usersync.config.extras import missing
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from usersync.worker.ingest_monitor import IngestMonitor
    from usersync.worker.worker import Worker

    #: The status, the content type and the body of an answer.
    Answer = tuple[HTTPStatus, str, str]

LIVE, READY, METRICS = "/livez", "/readyz", "/metrics"

_PLAIN = "text/plain; charset=utf-8"
#: The time limit for each part of a request, in seconds.
_REQUEST_S = 5.0
#: The largest number of open connections. A new one closes the oldest, so that slow clients block no probe.
MOST_CONNECTIONS = 64


class HealthServer:
    """Listens at an address until ``close()``. Port 0: any free port.

    ``/livez`` (liveness) is 200 while the worker's threads run. ``/readyz`` (readiness) is 200 while the
    worker renews its leases, and reads the feed and the stream of ``--ingest``. Otherwise both are 503, with
    the reason. ``/metrics`` has the metrics of ``usersync metrics``, read at most once in ``max_age``
    seconds, and those of the ingestion. It requires the extra ``prometheus``. Raises ``SettingsError`` if it
    cannot listen.
    """

    def __init__(
        self, worker: Worker, dsn: str, address: tuple[str, int], *, spool_dir: Path, max_age: float = 60.0
    ) -> None:
        host, port = address
        self._sync = UserSync(dsn)
        answers = {
            LIVE: lambda: _health(worker.liveness_problem()),
            READY: lambda: _health(worker.readiness_problem(), worker.held),
            METRICS: _metrics(self._sync, spool_dir, max_age, worker.ingest_monitor),
        }
        try:
            self._server = _server_class(host)(address, _handler(answers))
        except OSError as error:
            self._sync.close()
            raise SettingsError(
                f"cannot listen at {host}:{port}: {error.strerror or error}",
                hint="Another process may use this port. Choose another one with --health.",
            ) from error
        self.host, self.port = host, int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="usersync health", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._sync.close()


def _health(problem: str | None, held: tuple[str, ...] = ()) -> Answer:
    if problem is None:
        text = f"held: {', '.join(held)} (usersync subscriptions list)\n" if held else ""
        return HTTPStatus.OK, _PLAIN, f"ok\n{text}"
    return HTTPStatus.SERVICE_UNAVAILABLE, _PLAIN, f"{problem}\n"


def _metrics(
    sync: UserSync, spool_dir: Path, max_age: float, monitor: IngestMonitor | None
) -> Callable[[], Answer]:
    if lacking := missing("prometheus", "/metrics"):
        text = f"{lacking}\n{lacking.hint}\n"
        return lambda: (HTTPStatus.NOT_IMPLEMENTED, _PLAIN, text)
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - an extra
    from prometheus_client.exposition import CONTENT_TYPE_LATEST  # noqa: PLC0415 - an extra

    from usersync.metrics.prometheus import UsersyncCollector  # noqa: PLC0415 - an extra

    registry = CollectorRegistry()
    ingest = monitor.samples if monitor is not None else None
    registry.register(UsersyncCollector(sync=sync, spool_dir=spool_dir, ingest=ingest, max_age=max_age))
    # Without a handler, Python would print a warning at each scrape while the database is unavailable.
    logging.getLogger("usersync.metrics").addHandler(logging.NullHandler())
    return lambda: (HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry).decode())


def _server_class(host: str) -> type[ThreadingHTTPServer]:
    lock = threading.Lock()
    #: The open connections, the oldest first.
    connections: dict[Any, None] = {}

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True
        # A probe whose thread hangs must not delay the end of the worker.
        block_on_close = False

        def process_request(self, request: Any, client_address: Any) -> None:
            with lock:
                connections[request] = None
                oldest = next(iter(connections)) if len(connections) > MOST_CONNECTIONS else None
                connections.pop(oldest, None)
            if oldest is not None:
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
            super().process_request(request, client_address)

        def shutdown_request(self, request: Any) -> None:
            with lock:
                connections.pop(request, None)
            super().shutdown_request(request)

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Log nothing: a client that disconnects is not an error of the worker."""

    return Server


def _handler(answers: dict[str, Callable[[], Answer]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_S

        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            if answer is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            status, content_type, text = answer()
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing: probes send a request every few seconds."""

    return Handler
