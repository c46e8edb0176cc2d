"""``usersync console``: pages in the browser about users, events and problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.text import typed

if TYPE_CHECKING:
    from usersync.cli.output import Output


@click.command(
    epilog=examples(
        ("usersync console", "prints a link; open it in a browser"),
        ("usersync console --open", "opens the link"),
        ("usersync console --allow-actions", "buttons that change data"),
        ("usersync console --port 8900", "for a tunnel: ssh -L 8900:127.0.0.1:8900"),
    )
)
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    metavar="PORT",
    help="The port on 127.0.0.1. Default: a free one.",
)
@click.option("--open", "opens", is_flag=True, help="Open the link in the browser.")
@click.option(
    "--allow-actions",
    is_flag=True,
    help="Add buttons that sync, retry and erase a user, and retry, pause, resume and replay a subscription.",
)
@common_options
def console(call: Call, port: int | None, *, opens: bool, allow_actions: bool) -> None:
    """Show users, events and problems in the browser.

    Serves the pages on this machine only (127.0.0.1), until Ctrl-C. The printed link works once, in one
    browser. Changes nothing without --allow-actions. Requires a database connection, and the extra `console`.
    """
    serve_console(call.output, call.dsn, call.target, port or 0, opens=opens, allow_actions=allow_actions)


def require_console() -> None:
    """Raise ``MissingExtraError`` unless the extra is installed."""
    import usersync.console  # noqa: F401, PLC0415 - an extra


def serve_console(
    output: Output, dsn: str, target: str, port: int = 0, *, opens: bool = False, allow_actions: bool = False
) -> None:
    """Print the link, and serve the pages until Ctrl-C."""
    from usersync.console.local import LocalConsole  # noqa: PLC0415 - an extra

    served = LocalConsole(dsn, port, allow_actions=allow_actions)
    with served.ended_by_signals():
        if output.as_json:
            output.document({"database": target, "url": served.url}, compact=True)
        else:
            output.say(f"{target} in the browser (Ctrl-C to end):", f"  {typed(served.url)}")
        if opens:
            click.launch(served.url)
        served.serve()
