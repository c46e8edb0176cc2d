"""The results of operations: frozen dataclasses, the same for every transport."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Change",
    "Check",
    "Counts",
    "Difference",
    "DifferenceClass",
    "Erasure",
    "Failure",
    "FailureKind",
    "FailureOutcome",
    "Finding",
    "LastRun",
    "LeftAlone",
    "Pause",
    "Removal",
    "Resumption",
    "SchemaPlan",
    "SyncResult",
    "SyncStatus",
]

#: ``degraded``: the row exists with fewer columns than the mapping asks for; ``failed``: it does not exist.
FailureOutcome = Literal["degraded", "failed"]
#: What is different about a row, see ``Difference``.
DifferenceClass = Literal["missing", "stale", "orphaned", "deleted_upstream"]
#: Rows of deleted users. No run changes them; ``sync --remove-orphans`` and ``--apply-deletions`` do.
LeftAlone = Literal["orphaned", "deleted_upstream"]
#: What failed: writing the row, removing or anonymizing it, recording an event of the user.
FailureKind = Literal["row", "removal", "event"]


@dataclass(frozen=True)
class Failure:
    """A sync failure: a user whose row is missing or degraded, and the reason. A row of
    ``usersync.sync_failures``.
    """

    user_id: UUID
    kind: FailureKind
    outcome: FailureOutcome
    sqlstate: str
    constraint: str | None
    column: str | None
    message: str
    #: The SQL function that raised the error, usually of a trigger of the application.
    raised_in: str | None
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime
    #: No run tries the user before this time; None: the next run tries the user.
    next_try_at: datetime | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Failure:
        """Create a failure from the JSON that the database returns for it."""
        times = {name: _time(data.get(name)) for name in ("first_failed_at", "last_failed_at", "next_try_at")}
        return cls(**{**data, **times, "user_id": UUID(data["user_id"])})


@dataclass(frozen=True)
class Difference:
    """A user who is out of sync. ``columns`` names the columns that differ, if the row is stale."""

    user_id: UUID
    difference: DifferenceClass
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Counts:
    """The numbers of users that a run found: missing and stale before it wrote, degraded and failed after.

    ``orphaned`` and ``deleted_upstream`` count rows of deleted users (the auth server has no such user, or
    has soft-deleted the user). No run changes them.
    """

    examined: int = 0
    missing: int = 0
    stale: int = 0
    orphaned: int = 0
    deleted_upstream: int = 0
    degraded: int = 0
    failed: int = 0

    @property
    def differing(self) -> int:
        """The number of users who were missing or stale."""
        return self.missing + self.stale

    @property
    def left_alone(self) -> int:
        """The number of rows of deleted users."""
        return self.orphaned + self.deleted_upstream

    def __add__(self, other: Counts) -> Counts:
        left, right = asdict(self), asdict(other)
        return Counts(**{key: left[key] + right[key] for key in left})


@dataclass(frozen=True)
class SyncResult:
    """The result of a run. With ``dry_run``, nothing was written and ``differences`` lists the pending
    changes, up to the caller's limit. ``seconds`` is the duration.
    """

    counts: Counts
    dry_run: bool = False
    differences: tuple[Difference, ...] = ()
    seconds: float = 0.0
    run_id: UUID | None = None

    @property
    def synced(self) -> int:
        """The number of users whose rows were created or updated."""
        return 0 if self.dry_run else max(self.counts.differing - self.errors, 0)

    @property
    def errors(self) -> int:
        """The number of users with a sync failure: their row is missing or degraded."""
        return self.counts.degraded + self.counts.failed


@dataclass(frozen=True)
class LastRun:
    """The run that was active last."""

    run_id: UUID
    finished: bool
    updated_at: datetime
    examined: int


@dataclass(frozen=True)
class Pause:
    """A pause: when it began, and who started it."""

    paused_at: datetime
    by: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Pause:
        """Create a pause from the JSON that the database returns for it."""
        return cls(datetime.fromisoformat(data["paused_at"]), data["by"])

    def __str__(self) -> str:
        return f"since {self.paused_at:%Y-%m-%d %H:%M:%S %Z} by {self.by}"


@dataclass(frozen=True)
class SyncStatus:
    """The state of both tables: numbers of users and rows, differences, failures, and the last run."""

    auth_users: int
    users: int
    missing: int
    stale: int
    orphaned: int
    deleted_upstream: int
    #: Users without a row for whom the settings want none (``skip``, ``creates_rows``).
    skipped: int
    degraded: int
    failed: int
    removal_failed: int
    #: Users with events that could not be stored in the audit log.
    event_failed: int
    oldest_missing_at: datetime | None
    oldest_failure_at: datetime | None
    last_run: LastRun | None
    #: The number of sync failures for each SQLSTATE.
    by_sqlstate: Mapping[str, int]
    observed_at: datetime = field(compare=False)
    #: ``standby``, or ``setting`` (default_transaction_read_only), if the database accepts no writes.
    read_only: str | None = None
    #: Set while the triggers are paused.
    paused: Pause | None = None

    @property
    def in_step(self) -> bool:
        """Whether both tables are in sync: no user is missing, stale, orphaned, deleted upstream or
        failed.
        """
        return not (self.missing or self.stale or self.left_alone or self.failures)

    @property
    def left_alone(self) -> int:
        """The number of rows of deleted users, which no run changes."""
        return self.orphaned + self.deleted_upstream

    @property
    def failures(self) -> int:
        """The number of users in the failures table, of every kind of failure."""
        return self.degraded + self.failed + self.removal_failed + self.event_failed

    @property
    def lag(self) -> timedelta | None:
        """How long the oldest missing user has been missing; None if no user is missing."""
        return self.observed_at - self.oldest_missing_at if self.oldest_missing_at else None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SyncStatus:
        """Create a status from the JSON that ``public.user_sync_status()`` returns."""
        run = data["last_run"]
        return cls(
            **{key: data[key] for key in _STATUS_COUNTS},
            oldest_missing_at=_time(data["oldest_missing_at"]),
            oldest_failure_at=_time(data["oldest_failure_at"]),
            last_run=LastRun(
                UUID(run["run_id"]),
                run["finished"],
                datetime.fromisoformat(run["updated_at"]),
                run["examined"],
            )
            if run
            else None,
            by_sqlstate=data["by_sqlstate"],
            observed_at=datetime.fromisoformat(data["observed_at"]),
            read_only=data.get("read_only"),
            paused=Pause.from_json(data["paused"]) if data.get("paused") else None,
        )


_STATUS_COUNTS = (
    *("auth_users", "users", "missing", "stale", "orphaned", "deleted_upstream", "skipped"),
    *("degraded", "failed", "removal_failed", "event_failed"),
)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


@dataclass(frozen=True)
class Resumption:
    """The result of ending a pause."""

    #: The pause that was ended; None if there was none.
    pause: Pause | None
    #: The retry of the users who were created, changed or deleted during the pause.
    retried: SyncResult
    #: The result of the run after that retry.
    sync: SyncResult
    #: Whether every transaction that began during the pause has ended. If not, call ``resume`` again later.
    complete: bool = True


@dataclass(frozen=True)
class Removal:
    """The result of applying ``on_delete`` or ``on_soft_delete`` to rows of deleted users."""

    kind: LeftAlone
    #: The number of rows of deleted users before the change.
    found: int
    #: The number of rows that were anonymized, marked as deleted, or deleted, as the setting says.
    removed: int
    #: The number of rows that could not be changed. The failures table has the reasons.
    failed: int
    seconds: float = 0.0
    #: Whether the audit log has an event for it. False without an audit log, or if it was not writable.
    recorded: bool = False


@dataclass(frozen=True)
class Erasure:
    """What was erased of one user, or would be erased (``dry_run``)."""

    user_id: UUID
    dry_run: bool
    #: Whether the row of the users table was emptied, or deleted.
    row: bool = False
    #: Whether the copy of the auth server's row was emptied.
    copied: bool = False
    #: Sync failures whose message was erased.
    failures: int = 0
    #: Rejected events (``usersync.audit_rejects``).
    rejects: int = 0
    #: Events in the log that contained personal data.
    events: int = 0
    #: Events in the spools of this machine.
    spooled: int = 0
    #: Whether ``user.erased`` was recorded.
    recorded: bool = False
    #: The number of e-mail addresses and phone numbers that were searched for.
    addresses: int = 0
    #: Events with personal data that a legal hold keeps unchanged.
    held: int = 0
    #: Whether there is an audit log to search.
    has_log: bool = True

    @property
    def anything(self) -> bool:
        """Whether there was anything to erase."""
        return bool(self.row or self.copied or self.failures or self.rejects or self.events or self.spooled)


@dataclass(frozen=True)
class Finding:
    """A problem that ``plan``, ``init``, ``doctor`` or a trial found in a database, and its fix.

    Levels: an ``error`` stops ``apply``; a ``problem`` fails already; a ``warning`` may fail.
    """

    #: The check of ``usersync doctor`` that reports it, such as ``D012``.
    code: str
    #: The object with the problem, such as ``table public.users``.
    subject: str
    message: str
    #: SQL or ``usersync`` commands to paste, one a line. Advice is an SQL comment.
    fix: str | None = None
    level: Literal["error", "problem", "warning"] = "problem"
    #: Whether the fix changes only objects of usersync, and ``doctor --fix`` may run it.
    safe: bool = False
    #: Whether a person has to decide before anything is written.
    decision: bool = False

    @property
    def hint(self) -> str | None:
        """The fix as prose: without the ``--`` of SQL comments."""
        return "\n".join(line.removeprefix("-- ") for line in self.fix.splitlines()) if self.fix else None


@dataclass(frozen=True)
class Change:
    """One step of a change to the schema: a description in one line, and its SQL."""

    kind: Literal["create", "replace", "alter", "drop", "keep"]
    subject: str
    reason: str
    sql: str
    #: Whether it locks a table that the application or the auth server uses.
    busy: bool = False
    #: Whether it runs after the others, outside of a transaction.
    alone: bool = False


@dataclass(frozen=True)
class SchemaPlan:
    """The changes that ``apply`` would make to the schema, and the findings."""

    changes: tuple[Change, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop ``apply``."""
        return tuple(finding for finding in self.findings if finding.level == "error")


@dataclass(frozen=True)
class Check:
    """One numbered check of ``usersync doctor``."""

    code: str
    title: str
    status: Literal["ok", "warning", "problem", "skipped"]
    #: The result in words, or why the check was skipped.
    detail: str
    findings: tuple[Finding, ...] = ()

    @property
    def fix(self) -> str | None:
        """The fixes of all findings, without duplicates."""
        return "\n".join(dict.fromkeys(each.fix for each in self.findings if each.fix)) or None

    @property
    def safe_fixes(self) -> tuple[str, ...]:
        """The fixes that ``usersync doctor --fix`` runs: each is SQL or a usersync command."""
        return tuple(dict.fromkeys(each.fix for each in self.findings if each.safe and each.fix))
