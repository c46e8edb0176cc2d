"""Explains one user: both rows, their differences, and what a sync would do now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from usersync.config.mapping import Column, Owner, quote
from usersync.core.reconcile import compare_users
from usersync.core.users import failures, missing_columns
from usersync.errors import UserNotFoundError
from usersync.sql.expressions import as_text, comparable, differs, literal
from usersync.transports.steps import BEGIN, ROLLBACK, query, query_row

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from usersync.config.settings import Settings
    from usersync.models import Difference, Failure
    from usersync.transports.steps import Steps

Prospect = Literal[
    "nothing", "skipped", "written", "orphaned", "deleted_upstream", "degraded", "failed", "not_tried"
]

#: The effect of a sync, in words.
SYNC_EFFECTS: Mapping[Prospect, str] = {
    "nothing": "Nothing: the row is in sync.",
    "written": "The row would be written completely.",
    "orphaned": "The row stays unchanged: the auth server has no such user. To apply on_delete:",
    "deleted_upstream": "The row stays unchanged: the user is soft-deleted. To apply on_soft_delete:",
    "skipped": "Nothing: the settings skip this user (skip, or creates_rows = false).",
    "degraded": "A degraded row would be written, with fewer columns than mapped:",
    "failed": "The row could not be written:",
    "not_tried": "Not tried: the database accepts no writes (a standby, or default_transaction_read_only).",
}

_MOST_FOUND = 20

#: Columns of the auth server's row that describe the user's state, besides the mapped ones.
_FACTS = (
    "created_at", "last_sign_in_at", "email_confirmed_at", "phone_confirmed_at", "banned_until", "deleted_at",
    "is_anonymous", "is_sso_user",
)  # fmt: skip


@dataclass(frozen=True)
class ColumnReport:
    """One mapped column: the auth server's value and the stored value, as text."""

    name: str
    owner: Owner
    #: Each source of the value, in order, with its content.
    sources: Mapping[str, str | None]
    #: The resulting value, with the default; null if there is none or the user is deleted.
    wanted: str | None
    stored: str | None
    differs: bool
    #: The value after a sync; equal to ``stored`` if a sync would not change it.
    would_be: str | None
    #: Whether the users table lacks the column: it was renamed or dropped, or the table is a different one.
    missing: bool = False


@dataclass(frozen=True)
class UserReport:
    """Both rows of a user, the failure, and the effect of a sync."""

    user_id: UUID
    #: The auth server's columns; None if it has no such user.
    auth: Mapping[str, Any] | None
    has_row: bool
    #: The transaction that wrote the row last; and when, where the server keeps that
    #: (``track_commit_timestamp``).
    written_by: str | None
    written_at: datetime | None
    columns: tuple[ColumnReport, ...]
    failure: Failure | None
    prospect: Prospect
    #: Why a sync would not write a complete row.
    prospective_failure: Failure | None

    @property
    def in_step(self) -> bool:
        """Whether the user is in sync and has no failure."""
        return self.prospect in {"nothing", "skipped"} and self.failure is None and not self.missing

    @property
    def fails_again(self) -> bool:
        """Whether a sync would fail in the same way as the recorded failure says."""
        then, now = self.failure, self.prospective_failure
        return then is not None and now is not None and _kind(then) == _kind(now)

    @property
    def missing(self) -> tuple[str, ...]:
        """The mapped columns that the users table does not have."""
        return tuple(column.name for column in self.columns if column.missing)


def find_users(settings: Settings, text: str) -> Steps[list[UUID]]:
    """The ids of users with this id, e-mail address or phone number, the oldest first, at most 20."""
    try:
        return [UUID(text)]
    except ValueError:
        pass
    table = settings.source_table.quoted.replace("%", "%%")
    given = 'lower("email") = lower(%(text)s)'
    if not settings.copies_source:
        # The auth server's index of addresses begins with the instance. Nearly all users have the same.
        given = (
            f'("instance_id" is null and {given} or "instance_id" = any(array({_INSTANCES.format(table)})) '
            f"and {given})"
        )
    found = yield from query(
        f'select "id" from {table} where {given} or "phone" = ltrim(%(text)s, \'+\') '
        f'order by "created_at", "id" limit {_MOST_FOUND}',
        text=text,
    )
    return [row["id"] for row in found]


#: The values of instance_id, each read from the index.
_INSTANCES = """
    with recursive instance (id) as (
        (select "instance_id" from {0} where "instance_id" is not null order by 1 limit 1)
        union all
        select (select "instance_id" from {0} where "instance_id" > instance.id order by 1 limit 1)
        from instance where instance.id is not null
    ) select id from instance where id is not null
"""


def explain_user(settings: Settings, user_id: UUID) -> Steps[UserReport]:
    """Report on a user. Tries a sync in a transaction that is rolled back, if the database accepts writes.

    The connection must not be in a transaction. Raises ``UserNotFoundError`` if neither table has the user.
    """
    missing = yield from missing_columns(settings)
    before = yield from _look(settings, user_id, missing)
    failure = yield from _failure(user_id)
    if before["auth"] is None and not before["has_row"] and failure is None:
        raise UserNotFoundError(
            f"no user {user_id} in {settings.source_table} or in {settings.users_table}",
            hint="Check the id, and that this is the right project.",
        )
    # The comparison reads all mapped columns.
    _, differing = ((), ()) if missing else (yield from compare_users([user_id]))
    after, failed = before, None
    yield BEGIN
    try:
        access = yield from query_row("select current_setting('transaction_read_only')::boolean as read_only")
        if not access["read_only"]:
            yield from query("select usersync.sync_users(array[%(id)s]::uuid[], null, true)", id=user_id)
            after = yield from _look(settings, user_id, missing)
            failed = yield from _failure(user_id)
    finally:
        yield ROLLBACK
    prospect = _prospect(before, after, failed, differing)
    if access["read_only"] and (differing or missing or not before["has_row"]):
        prospect = "not_tried"
    return UserReport(
        user_id,
        auth=before["auth"],
        has_row=before["has_row"],
        written_by=before["written_by"],
        written_at=before["written_at"],
        columns=tuple(_report(column, before, after, missing) for column in settings.columns),
        failure=failure,
        prospect=prospect,
        prospective_failure=failed,
    )


def _failure(user_id: UUID) -> Steps[Failure | None]:
    found = yield from failures(limit=1, user_id=user_id)
    return found[0] if found else None


def _kind(failure: Failure) -> tuple[str | None, ...]:
    return (
        *(failure.kind, failure.outcome, failure.sqlstate, failure.message),
        *(failure.column, failure.constraint, failure.raised_in),
    )


def _prospect(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    failed: Failure | None,
    differing: Sequence[Difference],
) -> Prospect:
    if failed is not None:
        return failed.outcome
    for each in differing:
        if each.difference in {"orphaned", "deleted_upstream"}:
            return each.difference
    if before["row_version"] != after["row_version"]:
        return "written"
    is_alive = before["auth"] is not None and not before["auth"]["deleted_at"]
    return "skipped" if is_alive and not before["has_row"] else "nothing"


def _report(
    column: Column, before: Mapping[str, Any], after: Mapping[str, Any], missing: Collection[str]
) -> ColumnReport:
    at = before["columns"][column.name]
    return ColumnReport(
        column.name,
        column.owner,
        dict(zip(_origins(column), at["sources"], strict=True)),
        at["wanted"],
        at["stored"],
        differs=at["differs"],
        would_be=after["columns"][column.name]["stored"],
        missing=column.name in missing,
    )


#: The placeholder of the user's id. No name can contain this character.
_ID = "\0"


def _look(settings: Settings, user_id: UUID, missing: Collection[str]) -> Steps[dict[str, Any]]:
    """Both rows, as this transaction sees them."""
    # A name or a default may contain a %, which begins a parameter.
    statement = _looking(settings, missing).replace("%", "%%").replace(_ID, "%(id)s::uuid")
    return dict((yield from query_row(statement, id=user_id)))


def _origins(column: Column) -> list[str]:
    return [column.origin] if column.is_computed else [str(source) for source in column.sources]


def _looking(settings: Settings, missing: Collection[str]) -> str:
    columns = ", ".join(
        f"{literal(column.name)}, {_column(settings, column, is_missing=column.name in missing)}"
        for column in settings.columns
    )
    facts = ", ".join(f"{literal(name)}, to_jsonb(source.*) -> {literal(name)}" for name in _FACTS)
    key = f"target.{quote(settings.key)}"
    return f"""
        select
            case when source."id" is not null then jsonb_build_object({facts}) end as auth,
            {key} is not null as has_row,
            target.xmin::text as written_by,
            case when current_setting('track_commit_timestamp')::boolean
                then pg_xact_commit_timestamp(target.xmin) end as written_at,
            target.ctid::text || ' ' || target.xmin::text as row_version,
            {f"jsonb_build_object({columns})" if columns else "'{}'::jsonb"} as columns
        from (select {_ID} as id) as asked
        left join {settings.source_table.quoted} as source on source."id" = asked.id
        left join {settings.users_table.quoted} as target on {settings.key_type.matches(key, "asked.id")}
        cross join (select usersync.column_defaults() as defaults) as known
    """


def _column(settings: Settings, column: Column, *, is_missing: bool) -> str:
    sources: Sequence[str] = (
        [as_text(column, "source")]
        if column.is_computed
        else [as_text(Column(column.name, (each,)), "source") for each in column.sources]
    )
    alive = 'source."id" is not null and source."deleted_at" is null'
    other = differs(column) if column.owner == "auth" and not is_missing else "false"
    stored = "null" if is_missing else f"({comparable(column, 'target')})::text"
    return (
        f"jsonb_build_object('sources', jsonb_build_array({', '.join(sources)}), "
        f"'wanted', case when {alive} then {as_text(column, 'source')} end, "
        f"'stored', {stored}, "
        f"'differs', {alive} and target.{quote(settings.key)} is not null and {other})"
    )
