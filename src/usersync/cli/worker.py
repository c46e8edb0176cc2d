"""``usersync worker``: handles events, and does everything periodic."""

from __future__ import annotations

import logging
import signal
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from usersync.cli.options import Call, Number, address_option, common_options, examples, in_url, ingest_option

if TYPE_CHECKING:
    from usersync.cli.output import Output
    from usersync.worker.health import HealthServer
    from usersync.worker.worker import Worker

_SHORTEST, _LONGEST = 2, 600


@click.command(
    epilog=examples(
        ("usersync worker myapp.events:handlers", "until SIGTERM or Ctrl-C"),
        ("usersync worker", "only what needs no handlers"),
        ("usersync worker --health 0.0.0.0:8080", "answer probes"),
        ("usersync worker --ingest nats://nats-1,nats-2", "also store events of a stream"),
    )
)
@click.argument("handlers", metavar="[MODULE:NAME]", required=False)
@click.option(
    "--lease",
    type=Number(_SHORTEST, _LONGEST),
    default=None,
    metavar="SECONDS",
    help="If the worker is silent for so long, another one takes over its work (15).",
)
@click.option(
    "--health",
    "address",
    callback=address_option,
    metavar="[HOST:]PORT",
    help="Answer /livez, /readyz and /metrics at this address. Default host: 127.0.0.1.",
)
@click.option(
    "--ingest",
    callback=ingest_option,
    metavar="URL",
    help="Also store the events that applications publish to NATS JetStream (AuditLog('nats://…')), from "
    "this nats:// or tls:// URL. Default: USERSYNC_INGEST, from the environment, .env.local or .env.",
)
@common_options
def worker(
    call: Call,
    handlers: str | None,
    lease: float | None,
    address: tuple[str, int] | None,
    ingest: str | None,
) -> None:
    """Handle events and run the periodic tasks, until the process is stopped.

    Calls the handlers of MODULE:NAME, an object of usersync.Handlers, for each event of their subscriptions.
    Register them first: 'usersync subscriptions sync'. It also retries sync failures that are due, compares
    all users every night, creates partitions of the audit log, applies [audit.retention], and delivers the
    spooled events that dead processes of this account have left on this machine.

    Any number of workers can run: they share the work. If a worker dies, the others take over its work. On
    SIGTERM, a worker finishes the events that it is handling, and ends. No sign-up waits for a worker. It
    requires a database connection as the role that owns usersync, directly or through a transaction pooler.
    """
    from usersync.cli.loading import load  # noqa: PLC0415 - only if used
    from usersync.worker.worker import LEASE_S, Worker  # noqa: PLC0415 - a driver, which --help does not need

    loaded = load(handlers) if handlers else None
    _log_to(call.output)
    found = Worker(call.dsn, loaded, lease=lease or LEASE_S, ingest=ingest)
    ending: list[int] = []
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda number, _: ending.append(number))
    health = _health(call, found, address)
    with health or nullcontext():
        found.start()
        try:
            call.output.tell(f"Working on {call.target}. Ctrl-C to end.")
            if health is not None:
                call.output.tell(f"Probes: http://{in_url(health.host)}:{health.port}/livez and /readyz")
            while found.is_running and not ending:
                time.sleep(0.1)
            call.output.tell("Stopping: waiting for events that are being handled")
        finally:
            # Also if nothing reads the output: otherwise, other workers would wait for the end of the leases.
            found.close()


def _health(call: Call, worker: Worker, address: tuple[str, int] | None) -> HealthServer | None:
    if address is None:
        return None
    from usersync.audit.options import default_spool_dir  # noqa: PLC0415 - only if used
    from usersync.worker.health import HealthServer  # noqa: PLC0415 - only if used

    return HealthServer(worker, call.dsn, address, spool_dir=default_spool_dir())


def _log_to(output: Output) -> None:
    """Show what the worker logs, unless the application's module has set up logging."""
    logger = logging.getLogger("usersync")
    if logging.getLogger().handlers or logger.handlers:
        return
    logger.addHandler(_Lines(output))
    logger.setLevel(logging.INFO)


class _Lines(logging.Handler):
    """Prints a line for each message: time, level, text."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._output.log(self.format(record))
