"""``usersync sync``: reconcile, with progress, and in a way that can be stopped."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, common_options, examples
from usersync.cli.sync_view import SyncView, UsersView
from usersync.cli.text import count, typed
from usersync.core import reconcile as plans
from usersync.core.users import failures
from usersync.errors import UserNotFoundError
from usersync.models import Counts, SyncResult

if TYPE_CHECKING:
    from uuid import UUID

    from usersync.cli.output import View
    from usersync.cli.sync_view import UserOutcome
    from usersync.client import UserSync


@click.command(
    epilog=examples(
        ("usersync sync --dry-run", "what differs; writes nothing"),
        ("usersync sync", "sync all users"),
        ("usersync sync --workers 4", "the same, by four connections"),
        ("usersync sync --resume", "continue a stopped run"),
        ("usersync sync --user ID", "one user"),
        ("usersync sync --create-missing", "create all missing rows"),
        ("usersync sync --create-missing --max 100", "create 100 of them"),
        ("usersync sync --remove-orphans", "list orphaned rows, and ask"),
        ("usersync sync --apply-deletions", "the same for soft-deleted users"),
        ("usersync sync --from-api", "read users from the admin API"),
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
    "--create-missing",
    is_flag=True,
    help="Create missing rows even if the settings leave that to the application (creates_rows = false).",
)
@click.option(
    "--remove-orphans",
    is_flag=True,
    help="Apply on_delete to rows whose user the auth server does not have. Lists them and asks.",
)
@click.option(
    "--apply-deletions",
    is_flag=True,
    help="Apply on_soft_delete to rows whose user the auth server has soft-deleted. Lists them and asks.",
)
@click.option(
    "--max",
    "limit",
    type=click.IntRange(0),
    metavar="N",
    help="With --create-missing: create at most N rows, then stop. With --remove-orphans and "
    "--apply-deletions: remove nothing if there are more than N such rows; required with --yes.",
)
@click.option("--yes", is_flag=True, help="Do not ask before rows are removed. Needs --max.")
@click.option(
    "--from-api",
    is_flag=True,
    help="First read all users from the auth server's admin API, where it has a database of its own.",
)
@common_options
def sync(call: Call, user_ids: tuple[UUID, ...], *, from_api: bool, **options: Any) -> View:
    """Write the rows that are missing or differ, page by page.

    Each page is a transaction of its own. Ctrl-C stops between two pages and loses nothing. Rows of deleted
    users are counted and left as they are: --remove-orphans and --apply-deletions remove them. Exit code 1
    if a user could not be synced.
    """
    removal = {name: options.pop(name) for name in ("remove_orphans", "apply_deletions", "limit", "yes")}
    if options["resume"] and options["dry_run"]:
        raise click.UsageError("--resume and --dry-run exclude each other: there is nothing to go on with")
    if removal["remove_orphans"] or removal["apply_deletions"]:
        return _remove(call, user_ids, from_api=from_api, dry_run=options["dry_run"], **removal)
    if removal["yes"]:
        raise click.UsageError("--yes requires --remove-orphans or --apply-deletions")
    if removal["limit"] is not None:
        return _create_some(call, removal["limit"], user_ids, from_api=from_api, **options)
    if from_api and (user_ids or options["dry_run"] or options["resume"]):
        raise click.UsageError("--from-api goes with neither --user, --dry-run nor --resume")
    call.warn_of_other_settings()
    if from_api:
        return _from_api(call, options)
    if not user_ids:
        return reconcile(call, **options)
    _refuse_run_options("--user")
    if options["dry_run"]:
        counts, found = call.run(plans.compare_users(user_ids, create=options["create_missing"]))
        return SyncView(SyncResult(counts, dry_run=True, differences=found), call.target)
    return _sync_users(call, user_ids, create=options["create_missing"])


def _remove(
    call: Call, user_ids: tuple[UUID, ...], *, remove_orphans: bool, apply_deletions: bool, **options: Any
) -> View:
    from usersync.cli.removal import remove  # noqa: PLC0415 - when it is wanted

    if remove_orphans and apply_deletions:
        raise click.UsageError(
            "--remove-orphans and --apply-deletions exclude each other: one after the other"
        )
    option = "--remove-orphans" if remove_orphans else "--apply-deletions"
    if user_ids:
        raise click.UsageError(f"{option} and --user exclude each other")
    _refuse_run_options(option)
    call.warn_of_other_settings()
    return remove(call, "orphaned" if remove_orphans else "deleted_upstream", **options)


def _create_some(
    call: Call,
    limit: int,
    user_ids: tuple[UUID, ...],
    *,
    create_missing: bool,
    dry_run: bool,
    from_api: bool,
    **_: Any,
) -> SyncView:
    """Create missing rows, up to the limit. Users in the failures table are not tried."""
    if not create_missing or dry_run or from_api or user_ids:
        raise click.UsageError(
            "--max requires --create-missing, --remove-orphans or --apply-deletions, and is not allowed "
            "with --dry-run, --user or --from-api"
        )
    _refuse_run_options("--max")
    call.warn_of_other_settings()
    from usersync.client import UserSync  # noqa: PLC0415 - a driver, which --help can do without

    started = time.monotonic()
    failed = {each.user_id for each in call.run(failures(limit=sys.maxsize))}
    missing = call.run(plans.missing_users(limit, failed))
    call.output.tell(f"Creating {count(len(missing), 'row')} on {call.target}")
    with UserSync(call.source) as client:
        outcomes = [_sync_one(client, each, create=True) for each in missing]
    counts = Counts(
        examined=len(missing), missing=len(missing), failed=sum(each == "in the ledger" for each in outcomes)
    )
    again = f"usersync sync --create-missing --max {limit}" if len(missing) == limit else None
    return SyncView(SyncResult(counts, seconds=time.monotonic() - started), call.target, again=again)


def _from_api(call: Call, options: dict[str, Any]) -> SyncView:
    """Update the copy of the auth server's users, then sync; users not listed count as orphaned."""
    from usersync.cli.from_api import update_copy_from_api  # noqa: PLC0415 - when it is wanted

    unlisted = update_copy_from_api(call).unlisted
    view = reconcile(call, **options)
    counts = replace(view.result.counts, orphaned=view.result.counts.orphaned + unlisted)
    return replace(view, result=replace(view.result, counts=counts), from_api=True)


def _refuse_run_options(option: str) -> None:
    context = click.get_current_context()
    for name in ("workers", "page_size", "resume"):
        if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option} and --{name.replace('_', '-')} exclude each other")


def reconcile(call: Call, **options: Any) -> SyncView:
    """Drive a run to its end, showing how it goes. Ctrl-C leaves whole pages, and says how to go on."""
    from usersync.cli.progress import progress  # noqa: PLC0415 - when it is wanted
    from usersync.client import UserSync  # noqa: PLC0415 - a driver, which --help can do without

    dry_run = options.get("dry_run", False)
    call.output.tell(f"{'Comparing' if dry_run else 'Syncing'} {call.target}")
    with UserSync(call.source) as client:
        try:
            if options.get("resume") and not call.run(plans.resume_run()):
                call.output.tell("There is no run to go on with: this begins a new one.")
            with progress(call.output) as on_progress:
                result = client.reconcile(on_progress=on_progress, **options)
            return SyncView(result, call.target)
        except KeyboardInterrupt:
            _say_how_to_go_on(call, dry_run=dry_run)
            raise


def _say_how_to_go_on(call: Call, *, dry_run: bool) -> None:
    if call.output.as_json:
        resume = None if dry_run else "usersync sync --resume"
        call.output.document({"interrupted": True, "resume": resume})
    elif dry_run:
        call.output.tell("", "Stopped. Nothing was written.")
    else:
        call.output.tell("", "Stopped. The pages that were done stay. To go on:", "")
        call.output.tell(f"  {typed('usersync sync --resume')}")


def _sync_users(call: Call, user_ids: tuple[UUID, ...], *, create: bool) -> UsersView:
    from usersync.client import UserSync  # noqa: PLC0415 - a driver, which --help can do without

    call.output.tell(f"Syncing {count(len(user_ids), 'user')} on {call.target}")
    with UserSync(call.source) as client:
        unique = dict.fromkeys(user_ids)
        return UsersView(
            tuple((each, _sync_one(client, each, create=create)) for each in unique), call.target
        )


def _sync_one(client: UserSync, user_id: UUID, *, create: bool) -> UserOutcome:
    try:
        return "in line" if client.sync_auth_user(user_id, create=create) else "in the ledger"
    except UserNotFoundError:
        return "unknown"
