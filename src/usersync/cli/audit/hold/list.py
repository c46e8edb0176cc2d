"""``usersync audit hold list``: lists the legal holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.audit.hold.view import HoldsView
from usersync.cli.options import Call, common_options, examples

if TYPE_CHECKING:
    from usersync.cli.output import View


@click.command("list", epilog=examples(("usersync audit hold list", "each hold with its reason")))
@common_options
def list(call: Call) -> View:  # noqa: A001 - the name of the command
    """List the legal holds."""
    from usersync.audit import holds  # noqa: PLC0415 - only if used

    return HoldsView(call.run(holds.holds()), call.target)
