"""``usersync audit hold add``: keeps the events of a tenant or an entity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from usersync.cli.audit.filters import as_entity
from usersync.cli.audit.hold.view import HoldsView
from usersync.cli.options import Call, common_options, examples

if TYPE_CHECKING:
    from usersync.cli.output import View


@click.command(
    epilog=examples(
        ('usersync audit hold add --tenant acme --reason "case 47"', "a tenant's events"),
        ("usersync audit hold add --entity order/7 --reason audit", "an entity's events"),
    )
)
@click.option("--tenant", metavar="ID", help="Keep the events of this tenant.")
@click.option(
    "--entity",
    callback=as_entity,
    metavar="TYPE[/ID]",
    help="Keep the events of this entity (order/12) or type (order).",
)
@click.option("--reason", required=True, metavar="TEXT", help="The reason, for example the case.")
@common_options
def add(call: Call, tenant: str | None, entity: tuple[str, str | None] | None, reason: str) -> View:
    """Keep the events of a tenant or an entity.

    The hold applies at once, to stored and to later events, until 'usersync audit hold remove'.
    """
    if (tenant is None) == (entity is None):
        raise click.UsageError("give either --tenant or --entity")
    from usersync.audit import holds  # noqa: PLC0415 - only if used

    kind, key = entity or (None, None)
    held = call.run(holds.add(reason, by=call.by, tenant_id=tenant, entity_type=kind, entity_id=key))
    call.record_act("usersync.hold_added", hold=held.hold_id, subject=held.subject, reason=held.reason)
    return HoldsView((held,), call.target, "Held:")
