"""``usersync audit hold remove``: removes a legal hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.audit.hold.view import HoldsView
from usersync.cli.options import Call, common_options, examples

if TYPE_CHECKING:
    from usersync.cli.output import View


@click.command(epilog=examples(("usersync audit hold remove 3", "the number is that of 'hold list'")))
@click.argument("hold_id", metavar="HOLD", type=int)
@common_options
def remove(call: Call, hold_id: int) -> View:
    """Remove a legal hold.

    The next 'usersync audit prune' deletes the events that are older than the retention.
    """
    from usersync.audit import holds  # noqa: PLC0415 - only if used

    removed = call.run(holds.remove(hold_id))
    call.record_act(
        "usersync.hold_removed", hold=removed.hold_id, subject=removed.subject, reason=removed.reason
    )
    return HoldsView((removed,), call.target, "Removed:")
