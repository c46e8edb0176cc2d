"""``usersync sync``: reconcile, with progress, and in a way that can be stopped."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, Number, common_options, examples
from usersync.cli.sync_view import SyncView, UsersView
from usersync.cli.text import count, number, typed
from usersync.errors import RemovalCapError, UserNotFoundError
from usersync.models import Counts, SyncResult
from usersync.plans import reconcile as plans

if TYPE_CHECKING:
    from uuid import UUID

    from usersync.cli.output import View
    from usersync.cli.sync_view import UserOutcome
    from usersync.client import UserSync


@click.command(
    epilog=examples(
        ("usersync sync --dry-run", "what differs; writes nothing"),
        ("usersync sync", "bring everybody in line"),
        ("usersync sync --workers 4", "the same, by four connections"),
        ("usersync sync --resume", "go on where a run was stopped"),
        ("usersync sync --user ID", "one user"),
        ("usersync sync --from-api", "for an auth server with a database of its own"),
    )
)
@click.option("--dry-run", is_flag=True, help="Compare, and write nothing. Exit code 1 if anything differs.")
@click.option(
    "--user", "user_ids", type=click.UUID, multiple=True, metavar="ID", help="Only this user. Repeatable."
)
@click.option(
    "--workers",
    type=click.IntRange(1, plans.MAX_WORKERS),
    default=1,
    metavar="N",
    help=f"Share the run among so many connections (1 to {plans.MAX_WORKERS}).",
)
@click.option(
    "--page-size",
    type=click.IntRange(1, plans.MAX_PAGE_SIZE),
    default=plans.PAGE_SIZE,
    metavar="N",
    help=f"Users in a transaction ({plans.PAGE_SIZE}).",
)
@click.option("--resume", is_flag=True, help="Go on with the run that was stopped last, if there is one.")
@click.option(
    "--removal-cap",
    type=Number(0, 1),
    metavar="SHARE",
    help="The share of rows that may be removed or anonymized, 0 to 1, instead of the setting's.",
)
@click.option(
    "--from-api",
    is_flag=True,
    help="First read all users from the auth server's admin API, where it has a database of its own.",
)
@common_options
def sync(call: Call, user_ids: tuple[UUID, ...], *, from_api: bool, **options: Any) -> View:
    """Bring the users table in line, page by page.

    Each page is a transaction of its own. Ctrl-C stops between two pages and loses nothing. Exit code 1 if
    somebody could not be brought in line.
    """
    if options["resume"] and options["dry_run"]:
        raise click.UsageError("--resume and --dry-run exclude each other: there is nothing to go on with")
    if from_api and (user_ids or options["dry_run"] or options["resume"]):
        raise click.UsageError("--from-api goes with neither --user, --dry-run nor --resume")
    call.warn_of_other_settings()
    if from_api:
        _receive(call, options["removal_cap"])
    if not user_ids:
        return reconcile(call, **options)
    _refuse_run_options()
    if options["dry_run"]:
        counts, found = call.run(plans.compare_users(user_ids))
        return SyncView(SyncResult(counts, dry_run=True, differences=found), call.target)
    return _sync_users(call, user_ids)


def _receive(call: Call, removal_cap: float | None) -> None:
    """Bring the copy of the auth server's users up to date."""
    from usersync.cli.progress import progress  # noqa: PLC0415 - when it is wanted
    from usersync.receiving import receive_all  # noqa: PLC0415 - likewise
    from usersync.rest.admin import AuthServer  # noqa: PLC0415 - likewise
    from usersync.transports.psycopg import link_to  # noqa: PLC0415 - a driver, which --help can do without

    server = AuthServer.from_env()
    call.output.tell(f"Reading users from {server.api.host}")
    with closing(link_to(call.source)) as link, progress(call.output) as on_progress:

        def on_listed(listed: int, total: int | None) -> None:
            on_progress(plans.Progress(Counts(examined=listed), total or 0))

        received = receive_all(link, server, removal_cap=removal_cap, on_listed=on_listed)
    gone = f", {count(received.gone, 'user')} gone" if received.gone else ""
    call.output.tell(
        f"{count(received.listed, 'user')} listed, {number(received.written)} new or changed{gone}"
    )


def _refuse_run_options() -> None:
    context = click.get_current_context()
    for name in ("workers", "page_size", "resume", "removal_cap"):
        if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--user and --{name.replace('_', '-')} exclude each other")


def reconcile(call: Call, **options: Any) -> SyncView:
    """Drive a run to its end, showing how it goes. Ctrl-C leaves whole pages, and says how to go on."""
    from usersync.cli.progress import progress  # noqa: PLC0415 - when it is wanted
    from usersync.client import UserSync  # noqa: PLC0415 - a driver, which --help can do without

    dry_run = options.get("dry_run", False)
    call.output.tell(f"{'Comparing' if dry_run else 'Syncing'} {call.target}")
    with UserSync(call.source) as client:
        try:
            if options.get("resume") and not call.run(plans.resume_run(options.get("removal_cap"))):
                call.output.tell("There is no run to go on with: this begins a new one.")
            with progress(call.output) as on_progress:
                result = client.reconcile(on_progress=on_progress, **options)
            return SyncView(result, call.target, _refusal(call, options) if dry_run else None)
        except KeyboardInterrupt:
            _say_how_to_go_on(call, dry_run=dry_run)
            raise


def _refusal(call: Call, options: dict[str, Any]) -> str | None:
    try:
        call.run(plans.check_removals(options.get("removal_cap")))
    except RemovalCapError as error:
        return str(error).partition(". ")[0]
    return None


def _say_how_to_go_on(call: Call, *, dry_run: bool) -> None:
    if call.output.as_json:
        resume = None if dry_run else "usersync sync --resume"
        call.output.document({"interrupted": True, "resume": resume})
    elif dry_run:
        call.output.tell("", "Stopped. Nothing was written.")
    else:
        call.output.tell("", "Stopped. The pages that were done stay. To go on:", "")
        call.output.tell(f"  {typed('usersync sync --resume')}")


def _sync_users(call: Call, user_ids: tuple[UUID, ...]) -> UsersView:
    from usersync.client import UserSync  # noqa: PLC0415 - a driver, which --help can do without

    call.output.tell(f"Syncing {count(len(user_ids), 'user')} on {call.target}")
    with UserSync(call.source) as client:
        unique = dict.fromkeys(user_ids)
        return UsersView(tuple((each, _sync_one(client, each)) for each in unique), call.target)


def _sync_one(client: UserSync, user_id: UUID) -> UserOutcome:
    try:
        return "in line" if client.sync_auth_user(user_id) else "in the ledger"
    except UserNotFoundError:
        return "unknown"
