"""Builds the indexes that partitions of the audit log lack, without blocking writers.

An earlier release created the partitions, and they are too large to be read under a lock. PostgreSQL does not
build an index of a partitioned table concurrently, so each partition gets its own index, which is then
attached to the index of the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.core.blockers import blockers
from usersync.errors import UsersyncError
from usersync.models import Change, Finding
from usersync.transports.lock_retry import BUSY_LOCK_TIMEOUT, retry_while_locked, take_lock
from usersync.transports.steps import Pause, Steps, in_transaction, query, query_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from usersync.config.settings import Settings
    from usersync.schema.inspection import Inspection
    from usersync.sql.render import Bundle


def index_changes(inspection: Inspection) -> Iterator[Change]:
    """The indexes to build."""
    for pending in inspection.catalog["audit_table_pending_indexes"]:
        size = pending["bytes"] / 1024**2
        yield Change(
            "create",
            f"index {pending['definition']} on {pending['partition']}",
            f"reads {size:,.0f} MB; events are recorded meanwhile",
            f"create index concurrently on {pending['partition']} {pending['definition']}",
            alone=True,
        )


def build_indexes(
    settings: Settings, bundle: Bundle, pending: Sequence[Change], on_change: Callable[[Change], None]
) -> Steps[tuple[tuple[Change, ...], tuple[Finding, ...]]]:
    """Build the ``pending`` indexes one after another. Returns the built indexes, and findings about the
    others.

    Each is one statement outside of a transaction, which waits for the transactions that are open at its
    start. It can be interrupted at any time: the next ``apply()`` continues.
    """
    if not pending:
        return (), ()
    built: list[Change] = []
    before = (yield from query_row("select current_setting('statement_timeout') as value"))["value"]
    yield from _set_timeout("0")
    try:
        for change in pending:
            yield Pause(0, f"Creating the {change.subject}, which {change.reason}. It may take minutes.")
            partition = change.subject.rpartition(" on ")[2]
            if (yield from _is_building(partition)):
                continue
            for invalid in (yield from query(_INVALID, partition=partition)):
                yield from query(f"drop index concurrently {invalid['name']}")
            yield from query(change.sql)
            yield from retry_while_locked(
                lambda: in_transaction(_attach(bundle)), "the audit log", lambda: blockers(settings)
            )
            built.append(change)
            on_change(change)
    except UsersyncError as error:
        missing = len(pending) - len(built)
        message = f"{missing} indexes of the audit log's partitions are missing: {error}"
        finding = Finding("D025", f"table {settings.audit_table}", message, "usersync apply", "warning")
        yield from _set_timeout(before)
        return tuple(built), (finding,)
    yield from _set_timeout(before)
    return tuple(built), ()


def _set_timeout(value: str) -> Steps[None]:
    yield from query("select set_config('statement_timeout', %(value)s, false)", value=value)


def _attach(bundle: Bundle) -> Steps[None]:
    yield from take_lock(BUSY_LOCK_TIMEOUT)
    yield from query(bundle.alter_audit_table)


def _is_building(partition: str) -> Steps[bool]:
    """Whether another session builds an index there. That session will complete it."""
    rows = yield from query(
        "select 1 from pg_stat_progress_create_index where relid = %(partition)s::regclass",
        partition=partition,
    )
    return bool(rows)


# The invalid indexes that an interrupted statement has left.
_INVALID = """
    select indexrelid::regclass::text as name from pg_index
    where indrelid = %(partition)s::regclass and not indisvalid and not indisprimary
"""
