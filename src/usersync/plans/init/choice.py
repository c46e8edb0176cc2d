"""Which table holds the application's users, and which of its columns the auth server's id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.errors import ConflictError
from usersync.mapping import quote
from usersync.plans.init.sources import usual
from usersync.plans.init.survey import USUAL_NAMES

if TYPE_CHECKING:
    from usersync.mapping import TableName
    from usersync.plans.init.survey import Candidate, Key

#: What the column with the auth server's id is called, best first, where no foreign key says it.
_USUAL_KEYS = ("auth_id", "auth_user_id", "supabase_id", "supabase_user_id", "user_id", "id", "uid", "uuid")


@dataclass(frozen=True)
class Choice:
    """A table of users with the column that holds the auth server's id."""

    candidate: Candidate
    key: Key

    @property
    def table(self) -> TableName:
        return self.candidate.table


def choices(candidates: tuple[Candidate, ...], written: tuple[TableName, ...] = ()) -> tuple[Choice, ...]:
    """The tables that can be used, the likeliest first; ``written`` are those that a recipe writes to."""

    def rank(choice: Choice) -> tuple[object, ...]:
        table, candidate = choice.table, choice.candidate
        name = usual(table.name)
        return (
            table not in written,
            table.schema != "public" and not choice.key.refers,
            USUAL_NAMES.index(name) if name in USUAL_NAMES else len(USUAL_NAMES),
            not choice.key.refers,
            -candidate.referrers,
            str(table),
        )

    found = [
        Choice(each, key)
        for each in candidates
        if (key := find_key(each)) and (key.refers or is_usual(each.table) or each.table in written)
    ]
    return tuple(sorted(found, key=rank))


def is_usual(table: TableName) -> bool:
    """Whether it is called as tables of users are."""
    return usual(table.name) in USUAL_NAMES


def find_key(candidate: Candidate) -> Key | None:
    """The column that most likely holds the auth server's id; None if none can."""

    def rank(key: Key) -> tuple[object, ...]:
        name = usual(key.name)
        turn = _USUAL_KEYS.index(name) if name in _USUAL_KEYS else len(_USUAL_KEYS)
        return not key.refers, turn, not key.is_primary, key.name

    return min(candidate.keys, key=rank, default=None)


def refusal(candidate: Candidate) -> ConflictError:
    """Why a table cannot be used as it is, and what to do about it."""
    table = candidate.table
    if len(candidate.primary_key) > 1 and not candidate.keys:
        columns = ", ".join(candidate.primary_key)
        return ConflictError(
            f"{table} has a primary key of several columns ({columns}), and none that is unique for itself: "
            "a user may have several rows there, and usersync keeps one for each",
            hint="If a user has one row after all, say so: alter table "
            f"{table.quoted} add unique ({quote(candidate.primary_key[-1])}). If it holds memberships, name "
            "your table of users: usersync init --table public.users, which usersync makes if there is none.",
        )
    return ConflictError(
        f"{table} has no column of type uuid that is unique for itself, so none can hold the auth id",
        hint="Add one, fill it for the users who are there, and run usersync init again: "
        f"alter table {table.quoted} add column auth_id uuid unique;",
    )
