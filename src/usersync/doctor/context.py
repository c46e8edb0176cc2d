"""The input and the result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from usersync.core.audit_log import COMMAND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from usersync.config.mapping import TableName
    from usersync.config.settings import Settings
    from usersync.errors import UsersyncError
    from usersync.models import Change, Finding, SchemaPlan
    from usersync.schema.inspection import Inspection
    from usersync.schema.trial.observation import Trial
    from usersync.sql.render import Bundle
    from usersync.transports.steps import Steps

Need = Literal["nothing", "source", "users table", "installation"]


class SkipCheckError(Exception):
    """The check is skipped; the message says why."""


@dataclass(frozen=True)
class Verdict:
    """The result of a check. ``ok_detail`` is shown if there are no findings."""

    ok_detail: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Spool:
    """The spool on this machine for the database that doctor checks."""

    #: The name for ``usersync audit spool --project``.
    project: str
    waiting: int
    #: How many of those are in files that no running process has open.
    abandoned: int
    oldest_at: datetime | None
    quarantined: int
    #: Files that cannot be read.
    damaged: tuple[str, ...] = ()
    #: Events that processes left in the spools of other connection strings before they died.
    other_spools: tuple[OtherSpool, ...] = ()


@dataclass(frozen=True)
class OtherSpool:
    """Events in the spool of another connection string, which may be a former one of the same database."""

    project: str
    waiting: int
    #: The id of the installation that the events are for.
    installation: str


@dataclass(frozen=True)
class Context:
    """A database as it was inspected before the first check."""

    settings: Settings
    bundle: Bundle
    inspection: Inspection
    #: What ``plan`` reports for these settings and this database.
    findings: tuple[Finding, ...]
    #: What ``usersync apply`` would do, or why it would fail.
    planned: SchemaPlan | UsersyncError
    #: The process id of the server as the driver knows it. A pooler gives an invented one.
    client_pid: int | None = None
    #: Whether the columns have the order of the installed functions.
    order_known: bool = True
    #: None if the spool was not read.
    spool: Spool | None = None

    @property
    def names(self) -> dict[str, str]:
        """The quoted names of both tables, as parameters of a query."""
        return {
            "users_table": self.settings.users_table.quoted,
            "source_table": self.settings.source_table.quoted,
        }

    def found(self, code: str) -> tuple[Finding, ...]:
        """The findings of one check."""
        return tuple(each for each in self.findings if each.code == code)

    @property
    def apply_is_safe(self) -> bool:
        """Whether ``usersync apply`` only restores objects: the same settings, no new table."""
        stored = (self.inspection.noted or {}).get("settings") or {}
        as_applied = all(stored.get(name) == value for name, value in self.settings.describe().items())
        fails = isinstance(self.planned, Exception) or bool(self.planned.errors)
        return as_applied and self.order_known and not fails and self.inspection.has_users_table

    def own_audit_table(self) -> TableName:
        """The audit log that usersync created. Raises SkipCheckError if there is none."""
        table, catalog = self.settings.audit_table, self.inspection.catalog
        self.require_audit_log()
        if not self.settings.audit.is_own:
            raise SkipCheckError(f"{table} is the application's own table, which the application maintains")
        if not catalog["audit_table_created_by_usersync"]:
            raise SkipCheckError(f"there is no table {table} that usersync created (see D025)")
        return table

    def require_audit_log(self) -> None:
        """Raise SkipCheckError if there is no audit log and the settings ask for none."""
        audit = self.settings.audit
        if audit.is_own and not audit.enabled and not self.inspection.catalog["has_audit_log"]:
            raise SkipCheckError(f"there is no audit log; to create it, run: {COMMAND}")

    def changes(self, subject: str) -> tuple[Change, ...]:
        """The changes that ``usersync apply`` would make to objects of this kind.

        Raises SkipCheckError if the changes cannot be computed.
        """
        if isinstance(self.planned, Exception):
            raise SkipCheckError(f"cannot compare the schema with the settings: {self.planned}")
        return tuple(each for each in self.planned.changes if each.subject.startswith(f"{subject} "))


@dataclass(frozen=True)
class Definition:
    """A numbered check. ``docs/doctor.md`` has a section with the same number and title."""

    code: str
    title: str
    look: Callable[[Context], Steps[Verdict]]
    needs: Need = "installation"


@dataclass(frozen=True)
class CanaryCheck:
    """A numbered check of the results of the canary."""

    code: str
    title: str
    judge: Callable[[Trial], Verdict]


def lines(parts: Iterable[str]) -> str:
    """The parts, one a line, without duplicates."""
    return "\n".join(dict.fromkeys(parts))


def number(count: int, noun: str) -> str:
    """``1 user``, ``2 users``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def without_query(verdict: Verdict) -> Steps[Verdict]:
    """A verdict that needed no query."""
    yield from ()
    return verdict
