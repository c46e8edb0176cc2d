"""Evidence of a trial about one table: which users get a row, its values, and how it changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.schema.trial.observation import NOW, is_constant, source_of
from usersync.schema.trigger_parser import Value
from usersync.transports.steps import query

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from usersync.config.mapping import TableName
    from usersync.schema.trial.observation import Observation, RowSeen, TableSeen, Trial
    from usersync.transports.steps import Steps

_SIGN_UPS_CONFIRMED = (
    "sign-up by e-mail with autoconfirm",
    "sign-up by OAuth",
    "sign-up by phone with autoconfirm",
)


def name_in_trial(table: TableName) -> str:
    """A table's name, as in observations."""
    return f"{table.schema}.{table.name}"


@dataclass(frozen=True)
class Observed:
    """The observations of one table; empty if nothing was tried, or if no sign-up was accepted."""

    trial: Trial | None
    table: TableName

    @property
    def is_known(self) -> bool:
        """Whether the effect of today's triggers was observed."""
        return self.trial is not None and self.trial.obstacle is None and not self.trial.observed_nothing

    def _of(self, flow: str) -> Observation | None:
        if self.trial is None or flow not in self.trial.observations:
            return None
        seen = self.trial[flow]
        return seen if seen.state == "accepted" else None

    def _rows(self, seen: Observation | None, *kinds: Any) -> tuple[RowSeen, ...]:
        table: TableSeen | None = seen.tables.get(name_in_trial(self.table)) if seen else None
        return table.of_kind(*kinds) if table else ()

    def creates_row(self, *flows: str) -> bool | None:
        """Whether any of these flows creates the user's row; None if none was accepted."""
        accepted = [seen for seen in map(self._of, flows) if seen]
        return any(self._rows(seen, "made") for seen in accepted) if accepted else None

    @property
    def made(self) -> tuple[RowSeen, ...]:
        """The rows that sign-ups and confirmations create."""
        seen = self.trial.accepted if self.trial else ()
        return tuple(row for each in seen if each.kind != "hard deletion" for row in self._rows(each, "made"))

    def skipped(self) -> tuple[str, ...]:
        """The users who get no row today, in the terms of the setting ``skip``."""
        return tuple(self._skipped()) if self.is_known and self.made else ()

    def _skipped(self) -> Iterator[str]:
        if self.creates_row("sign-up by e-mail") is False and self.creates_row("confirmation"):
            yield "unconfirmed"  # includes anonymous users
        elif self.creates_row("anonymous sign-up") is False and self.creates_row(*_SIGN_UPS_CONFIRMED):
            by_phone = self.creates_row("sign-up by phone with autoconfirm")
            yield "without_email" if by_phone is False else "anonymous"

    def values(self, names: Iterable[str]) -> Mapping[str, Value | None]:
        """The values of these columns in new rows; None for a value that cannot be described."""
        rows = self.made
        return {name: _value([row.values.get(name) for row in rows]) for name in names} if rows else {}

    def followed(self) -> frozenset[str] | None:
        """The columns of the row that follow changes of the user; None if no change was accepted."""
        changes = [
            each for each in (self.trial.of_kind("change") if self.trial else ()) if each.state == "accepted"
        ]
        if not changes or not self.is_known:
            return None
        return frozenset(
            name
            for each in changes
            for row in self._rows(each, "changed")
            for name in row.changed_columns
            if source_of(row.values[name])
        )

    def tombstone(self) -> str | None:
        """The only column that a hard deletion changes, if it sets the time of deletion."""
        for row in self._rows(self._of("hard deletion"), "changed"):
            names = sorted(row.changed_columns)
            if len(names) == 1 and row.values[names[0]] == NOW:
                return names[0]
        return None

    def fate(self, flow: str, tombstone: str | None) -> str | None:
        """The effect of a deletion on the row, in the terms of ``on_delete``; None if not observed."""
        seen = self._of(flow)
        if seen is None or not self.is_known:
            return None
        if self._rows(seen, "removed"):
            return "delete"
        rows = self._rows(seen, "changed")
        if {name for row in rows for name in row.changed_columns} == {tombstone}:
            return "soft"
        if any(_is_emptied(row.values[name]) for row in rows for name in row.changed_columns):
            return "anonymize"
        return "keep" if rows or self._rows(seen, "kept") else None


def _is_emptied(value: Any) -> bool:
    """Whether the value is null, or the hash by which the auth server replaces an address."""
    return value is None or source_of(value) in {"email", "phone"}


def _value(seen: list[Any]) -> Value | None:
    """One description of a column's value in all of these rows; None if there is none."""
    present = [value for value in seen if value is not None]
    if not present:
        return Value()
    if all(value == NOW for value in present):
        # If some rows have no time, it does not depend on the creation alone.
        return Value(is_now=True) if len(present) == len(seen) else None
    sources = Counter(source for value in present if (source := source_of(value)))
    constants = {
        value for value in present if is_constant(value) and isinstance(value, str | int | float | bool)
    }
    if sum(sources.values()) + sum(value in constants for value in present if _is_plain(value)) < len(
        present
    ):
        return None
    if len(constants) > 1 or (constants and not sources and len(present) < len(seen)):
        return None
    default = next(iter(constants), None)
    return Value(tuple(source for source, _ in sources.most_common()), default)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def open_questions(trial: Trial | None) -> Iterator[str]:
    """Questions that the trial leaves open, for a person to decide."""
    if trial is None:
        return
    if trial.obstacle:
        yield f"The auth server's requests were not tried: {trial.obstacle.message}. {_READ}"
    elif trial.observed_nothing:
        first = next(iter(trial.of_kind("sign-up")), None)
        why = f" ({first.flow}: {first.fault or first.reason})" if first else ""
        yield f"No sign-up was accepted in the trial{why}: the values of a new row are not known. {_READ}"
    elif untried := [each for each in trial.not_tried if each.blocked_by is None]:
        names = ", ".join(each.flow for each in untried)
        yield f"Not tried: {names}: {untried[0].reason}."


_READ = "The effects of the triggers were read from their text"


def faults(trial: Trial | None) -> Mapping[str, tuple[str, ...]]:
    """The flows of the auth server that fail today, by their fault."""
    found: dict[str, tuple[str, ...]] = {}
    for each in trial.refused if trial else ():
        fault = str(each.fault)
        found[fault] = (*found.get(fault, ()), each.flow)
    return found


def trigger_names(source: TableName) -> Steps[tuple[str, ...]]:
    """The enabled triggers on the auth server's table. Without any, a trial is not needed."""
    rows = yield from query(
        "select tgname from pg_catalog.pg_trigger join pg_catalog.pg_proc on pg_proc.oid = tgfoid "
        "where tgrelid = pg_catalog.to_regclass(%(source)s) and not tgisinternal and tgenabled <> 'D' "
        "order by 1",
        source=source.quoted,
    )
    return tuple(row["tgname"] for row in rows)
