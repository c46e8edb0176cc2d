"""The choice of the users table, and of its column with the auth server's id, by evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.config.mapping import quote
from usersync.errors import ConflictError
from usersync.schema.init.sources import usual
from usersync.schema.init.survey import USUAL_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from usersync.config.mapping import TableName
    from usersync.schema.init.survey import Candidate, Key, Presence

#: Usual names of the column with the auth server's id, most likely first, used without evidence.
_USUAL_KEYS = ("auth_id", "auth_user_id", "supabase_id", "supabase_user_id", "user_id", "id", "uid", "uuid")


@dataclass(frozen=True)
class TableEvidence:
    """Evidence for the columns that hold ids of auth users, by table and column."""

    #: The function of a trigger on the auth server's table that writes ``new.id`` into the column.
    written: Mapping[tuple[TableName, str], str]
    presence: Mapping[tuple[TableName, str], Presence]
    #: Tables that a trigger on the auth server's table inserts into, and the trigger's function.
    filled: Mapping[TableName, str]


@dataclass(frozen=True)
class Choice:
    """A table with the column that holds, or may hold, the auth server's id."""

    candidate: Candidate
    key: Key
    #: The function of the trigger that writes ``new.id`` into the key.
    written_by: str | None = None
    presence: Presence | None = None
    #: The function of the trigger that creates rows of this table, whatever it writes.
    filled_by: str | None = None
    #: Columns for which a source would be proposed.
    mapped: tuple[str, ...] = ()

    @property
    def table(self) -> TableName:
        return self.candidate.table

    @property
    def evidence(self) -> frozenset[str]:
        """The evidence that the key holds ids of auth users."""
        evidence = {
            "foreign key": self.key.refers,
            "trigger": self.written_by is not None,
            "ids": self.presence is not None and self.presence.known > 0,
            "every user": self.has_every_user,
        }
        return frozenset(name for name, is_there in evidence.items() if is_there)

    @property
    def has_every_user(self) -> bool:
        return self.presence is not None and 0 < self.presence.users == self.presence.with_row

    @property
    def is_proposable(self) -> bool:
        """Whether the table may be chosen without a question, if no other has as much evidence."""
        return bool(self.evidence and self.mapped)

    def is_clearer_than(self, other: Choice) -> bool:
        """Whether it has more evidence. A foreign key from the other table's key counts.

        If users may be divided over both tables, neither is clearer.
        """
        if f"{self.table.schema}.{self.table.name}" in other.key.parents:
            return self.evidence >= other.evidence
        may_be_divided = "ids" in other.evidence and not self.has_every_user
        return self.evidence > other.evidence and not may_be_divided


def choices(candidates: Iterable[Candidate], evidence: TableEvidence) -> tuple[Choice, ...]:
    """The tables that have a column for the id, those with the most evidence first."""
    found = (_choice(each, evidence) for each in candidates)
    return tuple(sorted((each for each in found if each), key=_rank))


def _choice(candidate: Candidate, evidence: TableEvidence) -> Choice | None:
    """The table with the column that has the most evidence, or else a usual name."""
    table = candidate.table

    def rank(choice: Choice) -> tuple[object, ...]:
        name = usual(choice.key.name)
        turn = _USUAL_KEYS.index(name) if name in _USUAL_KEYS else len(_USUAL_KEYS)
        is_uuid = choice.key.type.is_uuid
        return -len(choice.evidence), not is_uuid, turn, not choice.key.is_primary, choice.key.name

    return min(
        (
            Choice(
                candidate,
                key,
                evidence.written.get((table, key.name)),
                evidence.presence.get((table, key.name)),
                evidence.filled.get(table),
            )
            for key in candidate.keys
            if _may_be_key(candidate, key, evidence)
        ),
        key=rank,
        default=None,
    )


def _may_be_key(candidate: Candidate, key: Key, evidence: TableEvidence) -> bool:
    """Whether the column may hold ids. Unique text is usually a name or an address."""
    presence = evidence.presence.get((candidate.table, key.name))
    holds_ids = (candidate.table, key.name) in evidence.written or (presence and presence.known)
    return bool(key.type.is_uuid or key.is_primary or holds_ids or usual(key.name) in _USUAL_KEYS)


def _rank(choice: Choice) -> tuple[object, ...]:
    table = choice.table
    name = usual(table.name)
    return (
        not choice.is_proposable,
        -len(choice.evidence),
        table.schema != "public",
        USUAL_NAMES.index(name) if name in USUAL_NAMES else len(USUAL_NAMES),
        -choice.candidate.referrers,
        str(table),
    )


def clearest(found: tuple[Choice, ...]) -> Choice | None:
    """The choice with more evidence than every other; None if a person has to decide."""
    able = [each for each in found if each.is_proposable]
    best = next(
        (each for each in able if all(each is other or each.is_clearer_than(other) for other in able)), None
    )
    # If a trigger creates rows of another table, a person decides.
    passed_over = best and not best.written_by and any(each.written_by for each in found)
    return None if passed_over else best


def is_usual(table: TableName) -> bool:
    """Whether the table has a usual name of a users table."""
    return usual(table.name) in USUAL_NAMES


def shown(choice: Choice) -> str:
    """The evidence for a choice, and the missing evidence, as sentences."""
    return " ".join([*_found(choice), *_missing(choice)])


def _found(choice: Choice) -> Iterator[str]:
    presence, key = choice.presence, choice.key.name
    if choice.key.refers:
        yield f"{key} references the auth server's table."
    if choice.written_by:
        yield f"{choice.written_by} writes new.id into {key}."
    if presence and presence.known:
        yield f"{presence.with_row:,} of {presence.users:,} auth users have a row."


def _missing(choice: Choice) -> Iterator[str]:
    presence, key = choice.presence, choice.key.name
    if not choice.evidence:
        yield f"{key} has no foreign key to the auth server's table."
        if choice.filled_by:
            yield f"{choice.filled_by} inserts rows, but does not write new.id into {key}."
        else:
            yield "No trigger on the auth server's table writes new.id into it."
        if presence is None:
            yield f"The values of {key} could not be read."
        elif presence.values:
            yield f"None of {presence.values:,} values of {key} is the id of an auth user."
        else:
            yield "The table has no rows."
    elif not choice.mapped:
        yield "None of its other columns can be mirrored from the auth server."


def refusal(candidate: Candidate) -> ConflictError:
    """The error for a table that usersync does not support as it is."""
    table = candidate.table
    if len(candidate.primary_key) > 1 and not candidate.keys:
        columns = ", ".join(candidate.primary_key)
        return ConflictError(
            f"{table} has a primary key of several columns ({columns}), and no column that is unique alone: "
            "a user may have several rows, and usersync keeps one row for each user",
            hint="If a user has only one row: alter table "
            f"{table.quoted} add unique ({quote(candidate.primary_key[-1])}). If it holds memberships, name "
            "your users table: usersync init --table public.users. usersync creates it if it does not exist.",
        )
    return ConflictError(
        f"{table} has no unique column that can hold the auth user's id: the type uuid, text, varchar (of 36 "
        "or more), char(36) or citext",
        hint="Add such a column, fill it for existing users, and run usersync init again: "
        f"alter table {table.quoted} add column auth_id uuid unique;",
    )
