"""The comparison of two trials, before and after usersync's triggers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from usersync.schema.trial.observation import NOW, PLACEHOLDER, VARIES, is_constant

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from usersync.schema.trial.observation import Observation, RowSeen, TableSeen, Trial

#: ``refused``: accepted before. ``different``: another row, value or number of rows. ``accepted``: refused
#: before. ``admitted``: refused before, by a rule of the application. ``untried``: accepted before, and not
#: tried again.
Effect = Literal["refused", "different", "accepted", "admitted", "untried"]

#: The message about a user who no longer gets a row.
NO_ROW = "the user has a row today, and none with usersync"

#: The SQLSTATEs of rules that may decide who can sign up: foreign keys, CHECK constraints, RAISE.
_RULES = frozenset({"23503", "23514", "P0001"})


@dataclass(frozen=True)
class Difference:
    """A difference between two trials, and its flows."""

    effect: Effect
    #: The table or the column; ``auth.users`` for accepted or refused.
    subject: str
    message: str
    flows: tuple[str, ...] = ()

    @property
    def must_be_accepted(self) -> bool:
        """Whether a person has to accept the difference. This includes a flow that is no longer refused."""
        return self.effect != "accepted"


def compare(before: Trial, after: Trial, users_table: str) -> tuple[Difference, ...]:
    """The differences; the same difference of several flows once.

    If no flow created rows of the users table before, its new rows are no difference.
    """
    flows: dict[Difference, list[str]] = defaultdict(list)
    fills = any(_makes_row(each, users_table) for each in before.accepted)
    for seen in before:
        then = after.observations.get(seen.flow)
        if then is not None:
            for difference in _of_flow(seen, then, users_table if not fills else None):
                flows[difference].append(seen.flow)
    found = (replace(each, flows=tuple(names)) for each, names in flows.items())
    return tuple(sorted(found, key=lambda each: (each.effect != "refused", each.effect == "accepted")))


def _makes_row(seen: Observation, table: str) -> bool:
    return table in seen.tables and bool(_alive(seen.tables[table]))


def _of_flow(before: Observation, after: Observation, new_table: str | None) -> Iterator[Difference]:
    if before.state == "refused" and after.state == "accepted":
        effect: Effect = "admitted" if before.fault and before.fault.sqlstate in _RULES else "accepted"
        yield Difference(effect, "auth.users", f"refused today ({before.fault}), accepted with usersync")
    if before.state != "accepted":
        return
    if after.state == "refused":
        yield Difference("refused", "auth.users", f"accepted today, refused with usersync: {after.fault}")
    elif after.state == "not tried" and after.blocked_by is not None:
        return  # the failed flow has the difference
    elif after.state == "not tried":
        yield Difference("untried", "auth.users", f"accepted today, not tried with usersync: {after.reason}")
    else:
        for name in dict.fromkeys((*before.tables, *after.tables)):
            if name != new_table:
                yield from _of_table(name, before.tables.get(name), after.tables.get(name))


def _of_table(name: str, before: TableSeen | None, after: TableSeen | None) -> Iterator[Difference]:
    rows, then = _alive(before), _alive(after)
    gone, gone_then = _removed(before), _removed(after)
    if not (rows or then or gone or gone_then):
        yield from _of_counts(name, before, after)
        return
    if len(rows) != len(then):
        yield Difference("different", name, _number_of_rows(len(rows), len(then), gone, gone_then))
        return
    for row, other in _pairs(rows, then):
        for column in dict.fromkeys((*row.values, *other.values)):
            value, value_then = row.values.get(column), other.values.get(column)
            if not _same(value, value_then):
                message = f"{shown(value)} today, {shown(value_then)} with usersync"
                yield Difference("different", f"{name}.{column}", message)


def _number_of_rows(rows: int, then: int, gone: int, gone_then: int) -> str:
    if gone_then > gone:
        return "the row stays today, and is removed with usersync"
    if gone > gone_then:
        return "the row is removed today, and stays with usersync"
    if not then:
        return NO_ROW
    if not rows:
        return "the user has no row today, and one with usersync"
    return f"the user has {rows} rows today, and {then} with usersync"


def _of_counts(name: str, before: TableSeen | None, after: TableSeen | None) -> Iterator[Difference]:
    for what in ("inserted", "updated", "deleted"):
        number, then = (getattr(each, what) if each else 0 for each in (before, after))
        if number != then:
            message = f"rows {what}: {number} today, {then} with usersync"
            yield Difference("different", name, message)


def _alive(table: TableSeen | None) -> tuple[RowSeen, ...]:
    return table.of_kind("made", "changed", "kept") if table else ()


def _removed(table: TableSeen | None) -> int:
    return len(table.of_kind("removed")) if table else 0


def _pairs(rows: Sequence[RowSeen], others: Sequence[RowSeen]) -> Iterator[tuple[RowSeen, RowSeen]]:
    """Each row with the most similar row."""
    left = list(others)
    for row in rows:
        best = max(left, key=lambda other: _similarity(row, other))
        left.remove(best)
        yield row, best


def _similarity(row: RowSeen, other: RowSeen) -> int:
    return sum(_same(value, other.values.get(name)) for name, value in row.values.items())


def _same(value: Any, then: Any) -> bool:
    if VARIES in (value, then):
        return value is not None and then is not None
    if isinstance(value, dict) and isinstance(then, dict):
        return value.keys() == then.keys() and all(_same(each, then[name]) for name, each in value.items())
    return bool(value == then)


def shown(value: Any) -> str:
    """A value for people: placeholders in words."""
    if value is None:
        return "null"
    if not isinstance(value, str) or is_constant(value):
        return repr(value)
    words = _WORDS.get(value)
    if words is None and (match := PLACEHOLDER.fullmatch(value)):
        name = match[1].removesuffix(" before")
        words = f"the user's {name}" if name == match[1] else f"the previous {name}"
    return words or value


_WORDS = {VARIES: "a value that differs each time", NOW: "the time of the request"}


def names_of(flows: Iterable[str], trial: Trial) -> str:
    """Flows in words: ``every kind of sign-up``, or their names."""
    names = list(flows)
    every = [each.flow for each in trial.of_kind("sign-up") if each.blocked_by is None]
    if len(every) > 1 and set(every) <= set(names):
        names = ["every kind of sign-up", *(name for name in names if name not in every)]
    most = 6
    more = f" and {len(names) - most} more flows" if len(names) > most else ""
    return ", ".join(names[:most]) + more
