"""``usersync doctor --canary``: try the flows with the installed usersync, and check the users' rows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from usersync.config.mapping import quote
from usersync.models import Finding
from usersync.schema.trial.faults import fault_of_failure
from usersync.schema.trial.observation import Fault, RowOutcome, Trial
from usersync.schema.trial.observer import observe
from usersync.transports.run import run
from usersync.transports.steps import query, query_row

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from usersync.config.settings import Settings
    from usersync.transports.steps import Row, Steps

_INSTALLED = "select to_regclass('usersync.sync_failures') is not null as installed"

# In the transaction of a flow, disables usersync's triggers and restores the replaced triggers. If no trigger
# was replaced, the table is not locked.
_WITHOUT = (
    *(
        f"create or replace function usersync.{name}() returns trigger language plpgsql "
        "as 'begin return null; end'"
        for name in ("handle_new_user", "handle_updated_user", "handle_deleted_user")
    ),
    """
    do $$
    declare
        replaced record;
    begin
        for replaced in
            select definition from usersync.adopted
            where kind = 'trigger' and moved_to is null and to_regprocedure(function_name) is not null
        loop
            execute regexp_replace(replaced.definition, '^CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER');
        end loop;
    end $$
    """,
)


def run_canary(connection: psycopg.Connection[Any], settings: Settings, *, call_out: bool = False) -> Trial:
    """Try every flow, and check the row of each user. Blocks; rolls everything back.

    A refused flow is tried again without usersync's triggers, to find out whether they cause it. The
    connection must be in autocommit mode and in no transaction. Raises ``UsersyncError`` only if the
    connection is lost.
    """
    if not run(query_row(_INSTALLED), connection)["installed"]:
        why = "usersync is not installed in this database"
        return Trial(obstacle=Finding("D033", "trial", why, "usersync doctor --only D002,D003"))
    found = observe(
        connection, settings, call_out=call_out, times=1, row_outcome=partial(row_outcome, settings)
    )
    refused = [each.flow for each in found.refused]
    if not refused:
        return found
    without = observe(connection, settings, flows=refused, call_out=call_out, times=1, first=_WITHOUT)
    return replace(
        found,
        observations={
            flow: replace(each, fails_without=_fails(without, flow)) if flow in refused else each
            for flow, each in found.observations.items()
        },
        moved=(*found.moved, *without.moved),
    )


def _fails(without: Trial, flow: str) -> bool | None:
    states = {"refused": True, "accepted": False}
    return states.get(without[flow].state) if flow in without.observations else None


def row_outcome(settings: Settings, user_id: UUID) -> Steps[RowOutcome]:
    """The state of the user's row after an accepted request, and the sync failure."""
    failures = yield from query(
        _FAILURE.format(source=settings.source_table.quoted.replace("%", "%%")), id=user_id
    )
    failure = failures[0] if failures else None
    # A deleted user may still have a sync failure. It counts only if the row is out of sync.
    if failure is not None and failure["exists"] and _is_intended(settings, failure):
        return RowOutcome("ok")
    if failure is not None and failure["exists"]:
        return RowOutcome(failure["outcome"], (yield from fault_of_failure(failure)))
    out_of_sync = yield from query(
        "select * from usersync.find_out_of_sync_users(array[%(id)s]::uuid[], true)", id=user_id
    )
    if not out_of_sync:
        return RowOutcome("ok")
    if failure is not None:
        return RowOutcome(failure["outcome"], (yield from fault_of_failure(failure)))
    row = out_of_sync[0]
    missing = row["sqlstate"] == "US002" and (yield from _is_without_row(settings, user_id))
    fault = Fault(row["sqlstate"], row["message"], column=row["column_names"])
    return RowOutcome("failed" if missing else "differs", fault)


def _is_intended(settings: Settings, failure: Row) -> bool:
    """Whether the settings ask for an empty column, because another user has the value."""
    empties = {column.name for column in settings.columns if column.on_conflict == "null"}
    is_duplicate = failure["outcome"] == "degraded" and failure["sqlstate"] == UNIQUE_VIOLATION
    return is_duplicate and failure["column_name"] in empties


UNIQUE_VIOLATION = "23505"

_FAILURE = """
    select failure.*, exists (select from {source} as source where source.id = failure.user_id) as exists
    from usersync.sync_failures as failure
    where failure.user_id = %(id)s
"""


def _is_without_row(settings: Settings, user_id: UUID) -> Steps[bool]:
    table, is_row = settings.users_table.quoted, settings.key_type.matches_bound(quote(settings.key))
    return not (yield from query(f"select from {table.replace('%', '%%')} where {is_row}", id=user_id))
