"""The observations of a trial. Data only, so that all modules can use it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from usersync.models import Finding

#: The placeholder of a value that differs between users and comes from no column of the auth server.
VARIES = "<varies>"
#: The placeholder of the time of the transaction.
NOW = "<now>"

FlowKind = Literal["sign-up", "change", "soft deletion", "hard deletion"]
FlowState = Literal["accepted", "refused", "not tried"]
#: ``failed``: no row. ``degraded``: a row with fewer columns. ``differs``: out of sync with the mapping.
RowState = Literal["ok", "failed", "degraded", "differs"]
RowKind = Literal["made", "changed", "removed", "kept"]

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Fault:
    """Why a request was refused, or a row is out of sync. Contains no value of a row."""

    sqlstate: str | None
    message: str
    constraint: str | None = None
    column: str | None = None
    #: The function that raised the error, if any.
    raised_in: str | None = None
    #: The trigger that ran the function, and the trigger's table.
    trigger: str | None = None

    def __str__(self) -> str:
        places = {"constraint": self.constraint, "column": self.column, "raised in": self.raised_in}
        where = "".join(f", {kind} {name}" for kind, name in places.items() if name)
        if self.trigger:
            where += f" (trigger {self.trigger})"
        return f"SQLSTATE {self.sqlstate or 'none'}{where}: {self.message}"


@dataclass(frozen=True)
class RowOutcome:
    """The state of the user's row after a request, if usersync is installed."""

    state: RowState
    fault: Fault | None = None


@dataclass(frozen=True)
class RowSeen:
    """A row of the user after the request; for a removed row, before it."""

    kind: RowKind
    values: Values
    #: The values before the request, if the row existed.
    before: Values | None = None

    @property
    def changed_columns(self) -> frozenset[str]:
        """The columns that the request changed."""
        if self.kind != "changed" or self.before is None:
            return frozenset()
        return frozenset(name for name, value in self.values.items() if self.before.get(name) != value)


@dataclass(frozen=True)
class TableSeen:
    """The effects of a request on one table. The counts include rows that nested triggers wrote."""

    name: str
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    #: The user's rows. None if no key refers to the user, so that only the counts are known.
    rows: tuple[RowSeen, ...] | None = None

    @property
    def was_written(self) -> bool:
        return bool(self.inserted or self.updated or self.deleted)

    def of_kind(self, *kinds: RowKind) -> tuple[RowSeen, ...]:
        """The user's rows of these kinds."""
        return tuple(row for row in self.rows or () if row.kind in kinds)


@dataclass(frozen=True)
class Observation:
    """One flow: whether the auth server's request was accepted, and its effects."""

    flow: str
    kind: FlowKind
    state: FlowState
    #: Why the flow was not tried.
    reason: str = ""
    #: The flow before it that fails, if it was not tried for that reason.
    blocked_by: str | None = None
    #: Whether it was not tried because this auth server does not support it.
    not_needed: bool = False
    #: Whether it was not tried because a rollback would not undo its effects.
    lasts: bool = False
    #: Why the flow was refused.
    fault: Fault | None = None
    #: The auth server's statement that failed, as in ``INSERT into auth.users``.
    failed_statement: str | None = None
    #: By name, with ``auth.users``, without other tables of the auth server and of usersync.
    tables: Mapping[str, TableSeen] = field(default_factory=dict)
    #: The state of the user's row after an accepted flow, if usersync is installed (canary).
    row_state: RowState | None = None
    row_fault: Fault | None = None
    #: Whether a refused flow is refused without usersync, too. None if not tried.
    fails_without: bool | None = None
    #: The statements that the request sent to ``auth.users``: ``INSERT``, ``UPDATE``, ``DELETE``.
    statements: tuple[str, ...] = ()

    @property
    def written(self) -> Mapping[str, TableSeen]:
        """The application's tables that the request wrote to."""
        return {name: seen for name, seen in self.tables.items() if name != "auth.users" and seen.was_written}


@dataclass(frozen=True)
class MovedSequence:
    """A sequence whose numbers the flows used. A rollback does not reset it."""

    name: str
    by: int


@dataclass(frozen=True)
class Timing:
    """The median durations, in milliseconds, of a flow's statements on the server."""

    flow: str
    total: float
    #: The part of usersync's triggers.
    usersync: float


@dataclass(frozen=True)
class Trial:
    """All flows, each in a transaction that was rolled back."""

    observations: Mapping[str, Observation] = field(default_factory=dict)
    #: The owner of the auth server's table, which is the role of the auth server.
    auth_role: str = ""
    #: The role of the trial.
    tried_as: str = ""
    seconds: float = 0.0
    #: Privileges that the auth server's role lacks for triggers that run as this role.
    lacking: tuple[Finding, ...] = ()
    moved: tuple[MovedSequence, ...] = ()
    #: Effects that a rollback does not undo, in words.
    lasting: tuple[str, ...] = ()
    #: Why nothing was tried, and the fix.
    obstacle: Finding | None = None
    #: The result of recording an event, for D037; or why none was recorded.
    event: object = None
    #: The metadata keys of the test users with which each flow was accepted.
    metadata_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __getitem__(self, flow: str) -> Observation:
        return self.observations[flow]

    def __iter__(self) -> Iterator[Observation]:
        return iter(self.observations.values())

    def __len__(self) -> int:
        return len(self.observations)

    def of_kind(self, kind: FlowKind) -> tuple[Observation, ...]:
        """The observations of one kind of flow."""
        return tuple(each for each in self if each.kind == kind)

    @property
    def was_assumed(self) -> bool:
        """Whether the trial ran with the auth server's role."""
        return self.tried_as == self.auth_role

    @property
    def accepted(self) -> tuple[Observation, ...]:
        return tuple(each for each in self if each.state == "accepted")

    @property
    def refused(self) -> tuple[Observation, ...]:
        """The refused flows."""
        return tuple(each for each in self if each.state == "refused")

    @property
    def not_tried(self) -> tuple[Observation, ...]:
        return tuple(each for each in self if each.state == "not tried")

    @property
    def held_back(self) -> tuple[Observation, ...]:
        """The flows that were not tried because a rollback would not undo their effects."""
        return tuple(each for each in self.not_tried if each.lasts)

    @property
    def observed_nothing(self) -> bool:
        """Whether no sign-up was accepted, so that the trial shows nothing."""
        return not any(each.state == "accepted" for each in self.of_kind("sign-up"))

    def tables_of_users(self, *kinds: FlowKind) -> Mapping[str, frozenset[str]]:
        """Tables in which a flow of these kinds created a row with the user's id, and the columns with it."""
        found: dict[str, set[str]] = {}
        for each in self.accepted:
            if kinds and each.kind not in kinds:
                continue
            for name, table in each.written.items():
                for row in table.of_kind("made"):
                    keys = {column for column, value in row.values.items() if value == "<id>"}
                    if keys:
                        found.setdefault(name, set()).update(keys)
        return {name: frozenset(columns) for name, columns in found.items()}


#: The placeholder of a user's value.
PLACEHOLDER = re.compile(r"<([^<>]+)>")


def source_of(value: Any) -> str | None:
    """The source of a copied value, as in the settings: ``id``, ``user_metadata.name``.

    None for a constant, for a value that varies, and for a composed value.
    """
    if not isinstance(value, str) or value in (VARIES, NOW):
        return None
    match = PLACEHOLDER.fullmatch(value)
    return None if match is None or match[1].endswith(" before") or " of " in match[1] else match[1]


def is_constant(value: Any) -> bool:
    """Whether a value is the same for every user, null included."""
    return not (isinstance(value, str) and PLACEHOLDER.search(value))
