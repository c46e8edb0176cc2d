"""What a trial has seen. Data only, which every part of usersync may use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from usersync.models import Finding

#: Stands for a value that differs from user to user, and that comes from none of the auth server's columns.
VARIES = "<varies>"
#: Stands for the time of the transaction.
NOW = "<now>"

Kind = Literal["sign-up", "change", "soft deletion", "hard deletion"]
State = Literal["accepted", "refused", "not tried"]
#: ``failed``: no row. ``degraded``: less than the whole row. ``differs``: not what the mapping says.
RowState = Literal["ok", "failed", "degraded", "differs"]
RowKind = Literal["made", "changed", "removed", "kept"]

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Fault:
    """Why a request was refused, or a row is not what it should be. Holds no value of anybody's row."""

    sqlstate: str | None
    message: str
    constraint: str | None = None
    column: str | None = None
    #: The function that raised, where it was one.
    raised_in: str | None = None
    #: The trigger that ran it, and the table that it is on.
    trigger: str | None = None

    def __str__(self) -> str:
        places = {"constraint": self.constraint, "column": self.column, "raised in": self.raised_in}
        where = "".join(f", {kind} {name}" for kind, name in places.items() if name)
        if self.trigger:
            where += f" (trigger {self.trigger})"
        return f"SQLSTATE {self.sqlstate or 'none'}{where}: {self.message}"


@dataclass(frozen=True)
class RowOutcome:
    """What became of the user's row in the users table, where usersync is installed."""

    state: RowState
    fault: Fault | None = None


@dataclass(frozen=True)
class RowSeen:
    """A row that belongs to the user, after the request; for one that was removed, as it was before."""

    kind: RowKind
    values: Values
    #: As it was before the request, if it was there.
    before: Values | None = None

    @property
    def changed_columns(self) -> frozenset[str]:
        """Those that the request changed."""
        if self.kind != "changed" or self.before is None:
            return frozenset()
        return frozenset(name for name, value in self.values.items() if self.before.get(name) != value)


@dataclass(frozen=True)
class TableSeen:
    """What a request did to one table. Counts include rows that triggers of triggers wrote."""

    name: str
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    #: The user's rows. None if no key leads from the user to them, so that only the counts are known.
    rows: tuple[RowSeen, ...] | None = None

    @property
    def was_written(self) -> bool:
        return bool(self.inserted or self.updated or self.deleted)

    def of_kind(self, *kinds: RowKind) -> tuple[RowSeen, ...]:
        """The user's rows that were made, changed, removed or kept."""
        return tuple(row for row in self.rows or () if row.kind in kinds)


@dataclass(frozen=True)
class Observation:
    """One flow: whether the auth server's request was accepted, and what it left."""

    flow: str
    kind: Kind
    state: State
    #: Of a flow that was not tried: why.
    reason: str = ""
    #: Of a flow that was not tried because a request before it fails: the flow of that request.
    blocked_by: str | None = None
    #: Whether it was not tried because this auth server does not have it.
    not_needed: bool = False
    #: Whether it was not tried because a rollback would not undo what it does.
    lasts: bool = False
    #: Of one that was refused.
    fault: Fault | None = None
    #: The statement of the auth server's that failed, as in ``INSERT into auth.users``.
    failed_statement: str | None = None
    #: By name, ``auth.users`` included; other tables of the auth server and of usersync are left out.
    tables: Mapping[str, TableSeen] = field(default_factory=dict)
    #: Of an accepted flow, where usersync is installed and was asked: what became of the user's row.
    row_state: RowState | None = None
    row_fault: Fault | None = None
    #: Of a refused flow: whether it is refused without usersync, too. None if that was not tried.
    fails_without: bool | None = None
    #: The statements that the request sent to ``auth.users``: ``INSERT``, ``UPDATE``, ``DELETE``.
    statements: tuple[str, ...] = ()

    @property
    def written(self) -> Mapping[str, TableSeen]:
        """The application's tables that the request wrote to."""
        return {name: seen for name, seen in self.tables.items() if name != "auth.users" and seen.was_written}


@dataclass(frozen=True)
class MovedSequence:
    """A sequence that the flows drew from: a rollback does not put it back."""

    name: str
    by: int


@dataclass(frozen=True)
class Timing:
    """What the auth server's statements of a flow take in the server, in milliseconds: medians."""

    flow: str
    total: float
    #: What usersync's triggers take of it.
    usersync: float


@dataclass(frozen=True)
class Trial:
    """All flows, each in a transaction that was rolled back."""

    observations: Mapping[str, Observation] = field(default_factory=dict)
    #: Who owns the auth server's table, and so makes its requests.
    auth_role: str = ""
    #: Who made them here.
    tried_as: str = ""
    seconds: float = 0.0
    #: What the auth server's role may not do, and a trigger does in its name.
    lacking: tuple[Finding, ...] = ()
    moved: tuple[MovedSequence, ...] = ()
    #: What a rollback does not undo, in words: ``the trigger … on …, in …, asks the network …``.
    lasting: tuple[str, ...] = ()
    #: Why nothing was tried, and what to do.
    obstacle: Finding | None = None
    #: What came of recording an event, or why none was recorded: what D037 judges.
    event: object = None
    #: Keys of the metadata that the trial's users had, by flow: with them the flow was accepted.
    metadata_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __getitem__(self, flow: str) -> Observation:
        return self.observations[flow]

    def __iter__(self) -> Iterator[Observation]:
        return iter(self.observations.values())

    def __len__(self) -> int:
        return len(self.observations)

    def of_kind(self, kind: Kind) -> tuple[Observation, ...]:
        """The observations of one kind of flow."""
        return tuple(each for each in self if each.kind == kind)

    @property
    def was_assumed(self) -> bool:
        """Whether the requests were made with the auth server's role."""
        return self.tried_as == self.auth_role

    @property
    def accepted(self) -> tuple[Observation, ...]:
        return tuple(each for each in self if each.state == "accepted")

    @property
    def refused(self) -> tuple[Observation, ...]:
        """What fails already, before anything is changed (or, in the second half, with the triggers)."""
        return tuple(each for each in self if each.state == "refused")

    @property
    def not_tried(self) -> tuple[Observation, ...]:
        return tuple(each for each in self if each.state == "not tried")

    @property
    def held_back(self) -> tuple[Observation, ...]:
        """Those that were not tried because a rollback would not undo what they do."""
        return tuple(each for each in self.not_tried if each.lasts)

    @property
    def observed_nothing(self) -> bool:
        """No sign-up was accepted, so nothing is known of what a user is given here."""
        return not any(each.state == "accepted" for each in self.of_kind("sign-up"))

    def tables_of_users(self, *kinds: Kind) -> Mapping[str, frozenset[str]]:
        """Tables in which a flow of these kinds made a row with the user's id, and in which columns."""
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


#: What stands for a value of the user's.
PLACEHOLDER = re.compile(r"<([^<>]+)>")


def source_of(value: Any) -> str | None:
    """The source that a value was copied from, as the settings name it: ``id``, ``user_metadata.name``.

    None for a constant, for one that varies, and for one that was put together.
    """
    if not isinstance(value, str) or value in (VARIES, NOW):
        return None
    match = PLACEHOLDER.fullmatch(value)
    return None if match is None or match[1].endswith(" before") or " of " in match[1] else match[1]


def is_constant(value: Any) -> bool:
    """Whether a value is the same for every user, null included."""
    return not (isinstance(value, str) and PLACEHOLDER.search(value))
