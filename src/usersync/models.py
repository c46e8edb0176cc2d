"""What operations return: frozen, typed, and the same whatever the transport."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Mapping

Outcome = Literal["degraded", "failed"]
DifferenceClass = Literal["missing", "stale", "orphaned", "deleted_upstream"]
#: Rows of deleted users, which are left alone until somebody asks for them to be removed.
LeftAlone = Literal["orphaned", "deleted_upstream"]
#: What failed: to write a row, to remove or anonymize one, to record an event of the user.
FailureKind = Literal["row", "removal", "event"]


@dataclass(frozen=True)
class Failure:
    """A sync failure: a user who could not be synced, or not completely, and the reason."""

    user_id: UUID
    kind: FailureKind
    outcome: Outcome
    sqlstate: str
    constraint: str | None
    column: str | None
    message: str
    #: The function that raised, usually a trigger of the application.
    raised_in: str | None
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime
    #: No run tries the user before this time; None: the next run tries the user.
    next_try_at: datetime | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Failure:
        """Read what the database returns for a line."""
        times = {name: _time(data.get(name)) for name in ("first_failed_at", "last_failed_at", "next_try_at")}
        return cls(**{**data, **times, "user_id": UUID(data["user_id"])})


@dataclass(frozen=True)
class Difference:
    """A user whose two rows do not agree; ``columns`` says where, for a stale row."""

    user_id: UUID
    difference: DifferenceClass
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Counts:
    """What a reconciling run found: missing and stale before it wrote, degraded and failed after.

    ``orphaned`` and ``deleted_upstream`` are rows of deleted users (the auth server has no such user, or has
    soft-deleted the user). No run changes them.
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
        """How many users had to be written."""
        return self.missing + self.stale

    @property
    def left_alone(self) -> int:
        """How many rows of deleted users there are."""
        return self.orphaned + self.deleted_upstream

    def __add__(self, other: Counts) -> Counts:
        mine, theirs = asdict(self), asdict(other)
        return Counts(**{key: mine[key] + theirs[key] for key in mine})


@dataclass(frozen=True)
class SyncResult:
    """The result of a reconciling run.

    ``errors`` counts the users who are in the failures table now: their row is missing or degraded. With
    ``dry_run`` nothing was written, and ``differences`` lists the pending changes, up to a limit.
    """

    counts: Counts
    dry_run: bool = False
    differences: tuple[Difference, ...] = ()
    seconds: float = 0.0
    run_id: UUID | None = None

    @property
    def synced(self) -> int:
        """How many users were synced."""
        return 0 if self.dry_run else max(self.counts.differing - self.errors, 0)

    @property
    def errors(self) -> int:
        """How many users could not be synced, or not completely."""
        return self.counts.degraded + self.counts.failed


@dataclass(frozen=True)
class LastRun:
    """The reconciling run that was active last."""

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
        """Read what the database returns for a pause."""
        return cls(datetime.fromisoformat(data["paused_at"]), data["by"])

    def __str__(self) -> str:
        return f"since {self.paused_at:%Y-%m-%d %H:%M:%S %Z} by {self.by}"


@dataclass(frozen=True)
class SyncStatus:
    """The truth about both tables."""

    auth_users: int
    users: int
    missing: int
    stale: int
    orphaned: int
    deleted_upstream: int
    #: Users for whom the settings want no row (``skip``, ``creates_rows``), and who have none.
    skipped: int
    degraded: int
    failed: int
    removal_failed: int
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
        """Whether every living user has a whole row, and no other row is that of a living user."""
        return not (self.missing or self.stale or self.left_alone or self.failures)

    @property
    def left_alone(self) -> int:
        """How many rows of deleted users there are, which no run changes."""
        return self.orphaned + self.deleted_upstream

    @property
    def failures(self) -> int:
        """How many users are in the failures table, whatever failed."""
        return self.degraded + self.failed + self.removal_failed

    @property
    def lag(self) -> timedelta | None:
        """For how long the oldest missing user has been missing; None if nobody is."""
        return self.observed_at - self.oldest_missing_at if self.oldest_missing_at else None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SyncStatus:
        """Read what ``public.user_sync_status()`` returns."""
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
    *("degraded", "failed", "removal_failed"),
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
    """What became of rows of deleted users that somebody asked to be removed."""

    kind: LeftAlone
    #: How many there were.
    found: int
    #: How many are as ``on_delete`` (or ``on_soft_delete``) wants them now.
    removed: int
    #: How many could not be changed; the failures table has the reasons.
    failed: int
    seconds: float = 0.0
    #: Whether the audit log says so: there is a log, and it could be written.
    recorded: bool = False


@dataclass(frozen=True)
class Erasure:
    """What was erased of one user; or with ``dry_run`` would be."""

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
    #: How many e-mail addresses and phone numbers of the user were searched for.
    addresses: int = 0
    #: Whether there is an audit log to search.
    has_log: bool = True

    @property
    def anything(self) -> bool:
        """Whether there was anything to erase."""
        return bool(self.row or self.copied or self.failures or self.rejects or self.events or self.spooled)


@dataclass(frozen=True)
class Finding:
    """Something that ``plan``, ``init``, ``doctor`` or a trial found in a database, and the fix.

    An ``error`` stops ``apply``. With a ``problem`` something fails; a ``warning`` says what may fail.
    """

    #: The check of ``usersync doctor`` that reports it: ``D012``.
    code: str
    #: The object that it is about: ``table public.users``.
    subject: str
    message: str
    #: SQL or ``usersync`` commands, one a line, to be pasted. Advice to a person is an SQL comment.
    fix: str | None = None
    level: Literal["error", "problem", "warning"] = "problem"
    #: Whether the fix changes only objects of usersync, and ``doctor --fix`` may run it.
    safe: bool = False
    #: Whether a person has to decide about it before anything is written.
    decision: bool = False

    @property
    def hint(self) -> str | None:
        """The fix as prose: without the marks that make advice a comment."""
        return "\n".join(line.removeprefix("-- ") for line in self.fix.splitlines()) if self.fix else None


@dataclass(frozen=True)
class Change:
    """One step of a change to the schema: what it is in a line, and the SQL that does it."""

    kind: Literal["create", "replace", "alter", "drop", "keep"]
    subject: str
    reason: str
    sql: str
    #: Whether it locks a table that the application or the auth server is busy with.
    busy: bool = False


@dataclass(frozen=True)
class SchemaPlan:
    """What would change in the schema, and what was found on the way."""

    changes: tuple[Change, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop the plan."""
        return tuple(finding for finding in self.findings if finding.level == "error")


@dataclass(frozen=True)
class Check:
    """One numbered check of ``usersync doctor``."""

    code: str
    title: str
    status: Literal["ok", "warning", "problem", "skipped"]
    #: In words: what was found, or why the check was skipped.
    detail: str
    findings: tuple[Finding, ...] = ()

    @property
    def fix(self) -> str | None:
        """What to paste: the fixes of all findings, equal ones once."""
        return "\n".join(dict.fromkeys(each.fix for each in self.findings if each.fix)) or None

    @property
    def safe_fixes(self) -> tuple[str, ...]:
        """What of the fix ``usersync doctor --fix`` runs: SQL, or a command of usersync, each by itself."""
        return tuple(dict.fromkeys(each.fix for each in self.findings if each.safe and each.fix))
