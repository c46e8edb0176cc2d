"""``usersync sync``: reconciles the tables, with progress. A stopped run can be resumed."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from usersync.cli.options import Call, data_api_options, examples
from usersync.cli.sync_view import SyncView, UsersView
from usersync.cli.text import count, typed
from usersync.core import reconcile as operations
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
        ("usersync sync --dry-run", "show differences, write nothing"),
        ("usersync sync", "sync all users"),
        ("usersync sync --workers 4", "with four parallel connections"),
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
    type=click.IntRange(1, operations.MAX_WORKERS),
    default=1,
    metavar="N",
    help=f"Number of parallel connections (1 to {operations.MAX_WORKERS}).",
)
@click.option(
    "--page-size",
    type=click.IntRange(1, operations.MAX_PAGE_SIZE),
    default=operations.PAGE_SIZE,
    metavar="N",
    help=f"Users per transaction ({operations.PAGE_SIZE}).",
)
@click.option("--resume", is_flag=True, help="Continue the last stopped run, if there is one.")
@click.option(
    "--create-missing",
    is_flag=True,
    help="Create missing rows even with creates_rows = false.",
)
@click.option(
    "--remove-orphans",
    is_flag=True,
    help="Apply on_delete to rows whose auth user no longer exists. Lists them and asks.",
)
@click.option(
    "--apply-deletions",
    is_flag=True,
    help="Apply on_soft_delete to rows whose auth user is soft-deleted. Lists them and asks.",
)
@click.option(
    "--max",
    "limit",
    type=click.IntRange(0),
    metavar="N",
    help="With --create-missing: create at most N rows, then stop. With --remove-orphans and "
    "--apply-deletions: remove nothing if there are more than N such rows; required with --yes.",
)
@click.option("--yes", is_flag=True, help="Remove rows without asking. Requires --max.")
@click.option(
    "--from-api",
    is_flag=True,
    help="First read all users from the auth server's admin API, for an auth server with its own database.",
)
@data_api_options
def sync(call: Call, user_ids: tuple[UUID, ...], *, from_api: bool, **options: Any) -> View:
    """Write the missing and stale rows, page by page.

    Each page is one transaction. Ctrl-C stops between two pages and loses nothing. Rows of deleted users are
    counted and left unchanged; --remove-orphans and --apply-deletions remove them. Exit code 1 if a user
    could not be synced.
    """
    removal = {name: options.pop(name) for name in ("remove_orphans", "apply_deletions", "limit", "yes")}
    if options["resume"] and options["dry_run"]:
        raise click.UsageError("--resume is not allowed with --dry-run: a dry run cannot be resumed")
    if removal["remove_orphans"] or removal["apply_deletions"]:
        return _remove(call, user_ids, from_api=from_api, dry_run=options["dry_run"], **removal)
    if removal["yes"]:
        raise click.UsageError("--yes requires --remove-orphans or --apply-deletions")
    if removal["limit"] is not None:
        return _create_some(call, removal["limit"], user_ids, from_api=from_api, **options)
    if from_api and (user_ids or options["dry_run"] or options["resume"]):
        raise click.UsageError("--from-api is not allowed with --user, --dry-run or --resume")
    call.warn_of_other_settings()
    if from_api:
        return _from_api(call, options)
    if not user_ids:
        return reconcile(call, **options)
    _refuse_run_options("--user")
    if options["dry_run"]:
        counts, found = call.run(operations.compare_users(user_ids, create=options["create_missing"]))
        return SyncView(SyncResult(counts, dry_run=True, differences=found), call.target)
    return _sync_users(call, user_ids, create=options["create_missing"])


def _remove(
    call: Call, user_ids: tuple[UUID, ...], *, remove_orphans: bool, apply_deletions: bool, **options: Any
) -> View:
    from usersync.cli.remove_deleted import remove  # noqa: PLC0415 - only if used

    if remove_orphans and apply_deletions:
        raise click.UsageError(
            "--remove-orphans and --apply-deletions exclude each other: run one after the other"
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
    from usersync.client import UserSync  # noqa: PLC0415 - a driver, which --help does not need

    started = time.monotonic()
    failed = {each.user_id for each in call.run(failures(limit=sys.maxsize))}
    missing = call.run(operations.missing_users(limit, failed))
    call.output.tell(f"Creating {count(len(missing), 'row')} on {call.target}")
    with UserSync(call.source) as client:
        outcomes = [_sync_one(client, each, create=True) for each in missing]
    counts = Counts(
        examined=len(missing), missing=len(missing), failed=sum(each == "sync failure" for each in outcomes)
    )
    again = f"usersync sync --create-missing --max {limit}" if len(missing) == limit else None
    return SyncView(SyncResult(counts, seconds=time.monotonic() - started), call.target, again=again)


def _from_api(call: Call, options: dict[str, Any]) -> SyncView:
    """Update the copy of the auth server's users, then sync. Unlisted users count as orphaned."""
    from usersync.cli.from_api import update_copy_from_api  # noqa: PLC0415 - only if used

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
    """Run a reconciliation with progress. Ctrl-C keeps the committed pages, and prints how to continue."""
    from usersync.cli.progress import progress  # noqa: PLC0415 - only if used
    from usersync.client import UserSync  # noqa: PLC0415 - a driver, which --help does not need

    dry_run = options.get("dry_run", False)
    call.output.tell(f"{'Comparing' if dry_run else 'Syncing'} {call.target}")
    with UserSync(call.source) as client:
        try:
            if options.get("resume") and not call.run(operations.resume_run()):
                call.output.tell("No stopped run was found. This starts a new one.")
            with progress(call.output) as on_progress:
                result = client.reconcile(on_progress=on_progress, **options)
            return SyncView(result, call.target)
        except KeyboardInterrupt:
            _print_how_to_resume(call, dry_run=dry_run)
            raise


def _print_how_to_resume(call: Call, *, dry_run: bool) -> None:
    if call.output.as_json:
        resume = None if dry_run else "usersync sync --resume"
        call.output.document({"interrupted": True, "resume": resume})
    elif dry_run:
        call.output.tell("", "Stopped. Nothing was written.")
    else:
        call.output.tell("", "Stopped. Committed pages are kept. To continue:", "")
        call.output.tell(f"  {typed('usersync sync --resume')}")


def _sync_users(call: Call, user_ids: tuple[UUID, ...], *, create: bool) -> UsersView:
    from usersync.client import UserSync  # noqa: PLC0415 - a driver, which --help does not need

    call.output.tell(f"Syncing {count(len(user_ids), 'user')} on {call.target}")
    with UserSync(call.source) as client:
        unique = dict.fromkeys(user_ids)
        return UsersView(
            tuple((each, _sync_one(client, each, create=create)) for each in unique), call.target
        )


def _sync_one(client: UserSync, user_id: UUID, *, create: bool) -> UserOutcome:
    try:
        return "in sync" if client.sync_auth_user(user_id, create=create) else "sync failure"
    except UserNotFoundError:
        return "unknown"
