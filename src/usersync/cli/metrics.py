"""``usersync metrics``: prints metrics in Prometheus's text format, writes them to a file, or serves them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, Number, address_option, common_options, examples, in_url, ingest_option
from usersync.cli.output import describe_error, error_lines
from usersync.cli.text import good
from usersync.errors import BusyError, SettingsError
from usersync.metrics import of_backlog
from usersync.transports.jetstream.address import ingest_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from usersync.cli.output import View
    from usersync.client import UserSync
    from usersync.errors import UsersyncError
    from usersync.metrics import Sample
    from usersync.metrics.prometheus import UsersyncCollector

_LONGEST, _USUAL = 86_400, 60


@dataclass(frozen=True)
class MetricsView:
    """The metrics. If the database is unavailable, those that need no database."""

    text: str
    samples: tuple[Sample, ...]
    error: UsersyncError | None
    textfile: Path | None

    @property
    def exit_code(self) -> int:
        return self.error.exit_code if self.error else 0

    def lines(self, width: int) -> Iterator[str]:  # noqa: ARG002 - not wrapped
        if self.textfile is None:
            yield from self.text.splitlines()
        else:
            yield f"{good('Written:')} {self.textfile}"

    def data(self) -> dict[str, Any]:
        return {
            "metrics": [
                {
                    "name": sample.definition.name,
                    "labels": dict(zip(sample.definition.labels, sample.labels, strict=True)),
                    "value": float(sample.value),
                    "unit": sample.definition.unit,
                }
                for sample in self.samples
            ],
            "error": describe_error(self.error) if self.error else None,
        }


@click.command(
    epilog=examples(
        ("usersync metrics", "prints the metrics"),
        ("usersync metrics --textfile usersync.prom", "for node_exporter, from cron"),
        ("usersync metrics --serve 0.0.0.0:9464", "for Prometheus, until Ctrl-C"),
    )
)
@click.option(
    "--textfile",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the metrics to a file. The file is replaced atomically.",
)
@click.option(
    "--serve",
    "address",
    callback=address_option,
    metavar="[HOST:]PORT",
    help="Serve the metrics at /metrics. Default host: 127.0.0.1.",
)
@click.option(
    "--max-age",
    type=Number(0, _LONGEST),
    default=_USUAL,
    show_default=True,
    metavar="SECONDS",
    help="With --serve: maximum age of the database's metrics. A refresh reads both users tables.",
)
@click.option(
    "--dir", "spool_dir", type=click.Path(path_type=Path), metavar="DIR",
    help="The directory of the spools. Default: USERSYNC_SPOOL_DIR, else this account's state directory.",
)  # fmt: skip
@click.option(
    "--ingest",
    callback=ingest_option,
    metavar="URL",
    help="Also ask this stream (nats:// or tls://) how many messages no worker has stored yet. Default: "
    "USERSYNC_INGEST, from the environment, .env.local or .env.",
)
@common_options
def metrics(
    call: Call,
    textfile: Path | None,
    address: tuple[str, int] | None,
    **sources: Any,
) -> View | None:
    """Export metrics of both users tables and of this machine's audit spool.

    Prints them in Prometheus's text format. If the database is unreachable, usersync_up is 0, the metrics of
    the spool are still printed, and the exit code is 3. If the stream of --ingest is unreachable,
    usersync_ingest_up is 0. Requires prometheus-client (the extra `prometheus`).
    """
    from usersync.client import UserSync  # noqa: PLC0415 - a driver, which --help does not need

    if address is not None and (textfile is not None or call.output.as_json):
        raise click.UsageError("--serve is not allowed with --textfile or --json")
    with UserSync(call.source) as sync:
        collector = _collector(sync, **sources)
        if address is None:
            return _once(call, collector, textfile)
        _serve(call, collector, *address)
    return None


def _collector(
    sync: UserSync, spool_dir: Path | None, ingest: str | None, max_age: float
) -> UsersyncCollector:
    from usersync.audit.options import default_spool_dir  # noqa: PLC0415 - only if used
    from usersync.metrics.prometheus import UsersyncCollector  # noqa: PLC0415 - an extra

    stream = _backlog_of(ingest) if ingest is not None else None
    spools = spool_dir or default_spool_dir()
    return UsersyncCollector(sync=sync, spool_dir=spools, ingest=stream, max_age=max_age)


def _backlog_of(url: str) -> Callable[[], Iterator[Sample]]:
    address = ingest_address(url)
    from usersync.transports.jetstream.backlog import ask_backlog  # noqa: PLC0415 - an extra
    from usersync.transports.jetstream.connection import StreamError  # noqa: PLC0415 - an extra

    def samples() -> Iterator[Sample]:
        backlog = None
        try:
            backlog = ask_backlog(address)
        except StreamError as error:
            logging.getLogger("usersync.metrics").warning("cannot ask the stream: %s", error)
        return of_backlog(backlog)

    return samples


def _once(call: Call, collector: UsersyncCollector, textfile: Path | None) -> View:
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - an extra

    registry = CollectorRegistry()
    registry.register(collector)
    text = generate_latest(registry)
    if textfile is not None:
        with call.output.sink(textfile, mode=0o644) as file:
            file.write(text)
    error = collector.error
    if isinstance(error, BusyError):
        error = call.name_blockers(error)
    if error is not None:
        call.output.tell(*error_lines(error, call.output.width))
    return MetricsView(text.decode(), tuple(collector.samples()), error, textfile)


def _serve(call: Call, collector: UsersyncCollector, host: str, port: int) -> None:
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 - an extra

    registry = CollectorRegistry()
    registry.register(collector)
    # Without a handler, Python would print a warning at every scrape while the database is unavailable.
    logging.getLogger("usersync.metrics").addHandler(logging.NullHandler())
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise SettingsError(f"cannot listen at {host}:{port}: {error.strerror}") from error
    try:
        call.output.tell(
            f"{call.target} at http://{in_url(host)}:{server.server_port}/metrics  (Ctrl-C to end)"
        )
        thread.join()
    except KeyboardInterrupt:
        click.get_current_context().exit(0)  # Ctrl-C is the normal way to end
    finally:
        server.shutdown()
        server.server_close()
