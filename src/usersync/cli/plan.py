"""``usersync plan``: shows what ``usersync apply`` would change."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from usersync.cli.options import Call, differing_settings, examples, schema_options
from usersync.cli.plan_view import PlanView
from usersync.schema import installation

if TYPE_CHECKING:
    from usersync.transports.steps import Steps


adopt_option = click.option(
    "--adopt",
    is_flag=True,
    help="Replace hand-written triggers that copy users. rollback restores them.",
)


@click.command(
    epilog=examples(
        ("usersync plan", "what would change, and what prevents it"),
        ("usersync plan --sql > change.sql", "the SQL, for a reviewer"),
        ("usersync plan --exit-code", "2 if changes are pending, 0 if not"),
    )
)
@adopt_option
@click.option("--sql", "with_sql", is_flag=True, help="Print the SQL that would run.")
@click.option("--exit-code", is_flag=True, help="End with exit code 2 if changes are pending, for CI.")
@schema_options
def plan(call: Call, with_sql: bool, exit_code: bool, adopt: bool) -> PlanView:
    """Show what apply would change. Changes nothing.

    Exit code 1 if something prevents the installation. The output then names the reason and the fix.
    """
    next_step = "usersync apply --adopt" if adopt else "usersync apply"
    view = call.run(compare(call, next_step=next_step, with_sql=with_sql, adopt=adopt))
    return replace(view, code_for_changes=2 if exit_code else 0)


def compare(
    call: Call, *, next_step: str | None = None, with_sql: bool = False, adopt: bool = False
) -> Steps[PlanView]:
    """Compare the database with the settings."""
    planned = yield from installation.plan(call.settings, adopt=adopt)
    differing = yield from differing_settings(call.file_settings or call.settings)
    return PlanView(
        planned, call.target, call.settings_source, differing, next_step, with_sql, call.output.verbose
    )
