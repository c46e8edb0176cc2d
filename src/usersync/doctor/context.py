"""What a check is given, and what it says."""

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
    """This check cannot say anything here; the message says why."""


@dataclass(frozen=True)
class Verdict:
    """``all_well`` is the line for a check that found nothing wrong."""

    all_well: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Spool:
    """What waits on this machine for the database that is examined."""

    #: The name that ``usersync audit spool --project`` knows it by.
    project: str
    waiting: int
    #: How many of those are in files that no living process has.
    abandoned: int
    oldest_at: datetime | None
    refused: int
    #: Files that could not be read or were set aside.
    damaged: tuple[str, ...] = ()
    #: What dead processes left in the spools of other addresses.
    elsewhere: tuple[Elsewhere, ...] = ()


@dataclass(frozen=True)
class Elsewhere:
    """Events in the spool of another address, which may be a former one of the same database."""

    project: str
    waiting: int
    #: The id of the installation that they are for.
    installation: str


@dataclass(frozen=True)
class Context:
    """A database, as far as it was looked at before the first check."""

    settings: Settings
    bundle: Bundle
    inspection: Inspection
    #: What ``plan`` says of these settings and this database.
    findings: tuple[Finding, ...]
    #: What ``usersync apply`` would do, or why it would refuse.
    planned: SchemaPlan | UsersyncError
    #: The process that the driver believes to be connected to; a pooler makes one up.
    client_pid: int | None = None
    #: Whether the mapping is in the order that the functions were made in.
    order_known: bool = True
    #: None if nobody looked.
    spool: Spool | None = None

    @property
    def names(self) -> dict[str, str]:
        """Both tables, quoted, to be bound in a check's own query."""
        return {
            "users_table": self.settings.users_table.quoted,
            "source_table": self.settings.source_table.quoted,
        }

    def found(self, code: str) -> tuple[Finding, ...]:
        """The findings of one check."""
        return tuple(each for each in self.findings if each.code == code)

    @property
    def apply_is_safe(self) -> bool:
        """Whether ``usersync apply`` would only put back what was there: no other settings, no new table."""
        stored = (self.inspection.noted or {}).get("settings") or {}
        as_applied = all(stored.get(name) == value for name, value in self.settings.describe().items())
        refuses = isinstance(self.planned, Exception) or bool(self.planned.errors)
        return as_applied and self.order_known and not refuses and self.inspection.has_users_table

    def own_audit_table(self) -> TableName:
        """The audit log that usersync made; SkipCheckError if it is the application's, or not there."""
        table, catalog = self.settings.audit_table, self.inspection.catalog
        self.require_audit_log()
        if not self.settings.audit.is_own:
            raise SkipCheckError(f"{table} is the application's own table, and kept by the application")
        if not catalog["audit_table_created_by_usersync"]:
            raise SkipCheckError(f"there is no table {table} of usersync's making (see D025)")
        return table

    def require_audit_log(self) -> None:
        """SkipCheckError if there is no audit log, and nobody has asked for one."""
        audit = self.settings.audit
        if audit.is_own and not audit.enabled and not self.inspection.catalog["has_audit_log"]:
            raise SkipCheckError(f"there is no audit log; to create it, run: {COMMAND}")

    def changes(self, subject: str) -> tuple[Change, ...]:
        """What ``usersync apply`` would change of this kind of object; SkipCheckError if it would refuse."""
        if isinstance(self.planned, Exception):
            raise SkipCheckError(f"the schema cannot be compared: {self.planned}")
        return tuple(each for each in self.planned.changes if each.subject.startswith(f"{subject} "))


@dataclass(frozen=True)
class Definition:
    """A numbered check. ``docs/doctor.md`` has a section under the same number and title."""

    code: str
    title: str
    look: Callable[[Context], Steps[Verdict]]
    needs: Need = "installation"


@dataclass(frozen=True)
class CanaryCheck:
    """A numbered check of what became of the auth server's requests when they were tried."""

    code: str
    title: str
    judge: Callable[[Trial], Verdict]


def lines(parts: Iterable[str]) -> str:
    """One part a line, each of them once."""
    return "\n".join(dict.fromkeys(parts))


def number(count: int, noun: str) -> str:
    """``1 user``, ``2 users``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def settled(verdict: Verdict) -> Steps[Verdict]:
    """A verdict that needed no query of its own."""
    yield from ()
    return verdict
