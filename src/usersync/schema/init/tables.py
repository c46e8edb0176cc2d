"""The tables that may hold the application's users, and the evidence for each."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from usersync.config.mapping import SOURCE_TYPES, TableName
from usersync.config.settings import Settings, parse_settings
from usersync.core.installed import settings_in_database
from usersync.errors import ConflictError
from usersync.schema.init.columns import propose_columns
from usersync.schema.init.sources import evidence_of
from usersync.schema.init.survey import (
    Candidate,
    Metadata,
    count_ids,
    describe_table,
    find_candidates,
    sample_metadata,
)
from usersync.schema.init.table_choice import Choice, TableEvidence, choices, clearest, is_usual, refusal
from usersync.schema.init.trial_evidence import Observed
from usersync.schema.inspection import inspect
from usersync.schema.third_party_triggers import ThirdPartyTrigger, third_party_triggers
from usersync.sql.render import render_bundle
from usersync.transports.steps import query_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from usersync.schema.init.sources import Evidence
    from usersync.schema.trial.observation import Trial
    from usersync.transports.steps import Steps

#: The maximum number of tables whose columns are examined.
_MOST_TABLES = 20


@dataclass(frozen=True)
class Tables:
    """The tables that may hold the application's users, the most evidence first."""

    choices: tuple[Choice, ...]
    #: Tables with a usual name of a users table that usersync does not support as they are.
    unfit: tuple[Candidate, ...]
    #: The table that the evidence shows, or of the installed settings; None if a person has to decide.
    settled: Choice | None
    #: The table that usersync would create; None if a table of that name exists.
    new: TableName | None

    @property
    def is_question(self) -> bool:
        """Whether a person has to choose the table."""
        return self.settled is None and any(map(_is_likely, self.choices))

    def choose(self, table: TableName | None) -> Choice | TableName | None:
        """The named table, or else the table that the evidence shows; a name if the table does not exist.

        None without evidence. Raises ``ConflictError`` for a table that usersync does not support.
        """
        if table is None and self.settled:
            return self.settled
        for each in self.choices:
            if table == each.table:
                return each
        for candidate in self.unfit:
            if table in {None, candidate.table}:
                raise refusal(candidate)
        return table


def _is_likely(choice: Choice) -> bool:
    """Whether the table belongs into the question which table it is."""
    return bool(choice.is_proposable or choice.filled_by or choice.written_by or is_usual(choice.table))


def look_for_tables(
    source: TableName, table: TableName | None = None, trial: Trial | None = None
) -> Steps[Tables]:
    """Find the tables that may hold the application's users, and ``table``, whatever its name.

    ``trial`` has the observations of the auth server's flows. Raises ``ConflictError`` if the auth server's
    table does not exist.
    """
    settings = replace(Settings(), source_table=source)
    inspection = yield from inspect(render_bundle(settings))
    if inspection.catalog["source_columns"] is None:
        raise ConflictError(
            f"table {source} does not exist in this database",
            hint="Is this the project's database? If the auth server keeps its users elsewhere, write "
            "source_table into usersync.toml, and run usersync init again.",
        )
    found = third_party_triggers(settings, inspection.catalog)
    filled = {**_seen(trial), **_filled(found)}
    candidates = yield from find_candidates(source, (*filled, *([table] if table else [])))
    keys = [(each.table, key) for each in candidates if each.is_readable for key in each.keys]
    presence = yield from count_ids(source, keys)
    usable = choices(candidates, TableEvidence({**_seen_ids(trial), **_written(found)}, presence, filled))
    known = {each.table for each in usable}
    unfit = tuple(
        each
        for each in candidates
        if each.table not in known and (each.table == table or is_usual(each.table) or each.table in filled)
    )
    usable = yield from _with_mapped(source, usable, found, inspection.catalog, trial)
    named = tuple(each for each in usable if each.table == table)
    relevant = tuple(each for each in usable if each.evidence or _is_likely(each) or each in named)
    settled = (yield from _installed(relevant)) or clearest(relevant)
    return Tables(relevant, unfit, settled, (yield from _new(settings.users_table)))


def _filled(found: Iterable[ThirdPartyTrigger]) -> dict[TableName, str]:
    return {
        write.table: each.function for each in found for write in each.parsed.writes if write.kind == "insert"
    }


def _seen(trial: Trial | None) -> dict[TableName, str]:
    """The tables in which a sign-up created rows in the trial."""
    names = trial.tables_of_users("sign-up", "change") if trial else {}
    return {_table(name): "today's trigger" for name in names}


def _seen_ids(trial: Trial | None) -> dict[tuple[TableName, str], str]:
    names = trial.tables_of_users("sign-up", "change") if trial else {}
    return {
        (_table(name), column): "today's trigger" for name, columns in names.items() for column in columns
    }


def _table(name: str) -> TableName:
    schema, _, table = name.partition(".")
    return TableName(schema, table)


def _written(found: Iterable[ThirdPartyTrigger]) -> dict[tuple[TableName, str], str]:
    """The columns that a trigger writes ``new.id`` into."""
    return {
        (write.table, name): each.function
        for each in found
        for write in each.parsed.writes
        for name, value in write.values.items()
        if value is not None and value.sources == ("id",)
    }


def _with_mapped(
    source: TableName,
    found: tuple[Choice, ...],
    triggers: tuple[ThirdPartyTrigger, ...],
    catalog: Mapping[str, Any],
    trial: Trial | None,
) -> Steps[tuple[Choice, ...]]:
    """The choices with the columns that would be mapped. Choices without evidence have none."""
    metadata = (yield from sample_metadata(replace(Settings(), source_table=source))) or Metadata()

    def evidence(settings: Settings, about: Mapping[str, Any]) -> Evidence:
        columns = {column["name"]: column for column in about["columns"]}
        here = {**catalog, "users_columns": columns, "users_triggers": []}
        return evidence_of(settings, triggers, metadata, here, Observed(trial, settings.users_table))

    looked = []
    for turn, choice in enumerate(found):
        mapped = tuple[str, ...]()
        if choice.evidence and turn < _MOST_TABLES:
            mapped = yield from _mapped(source, choice, evidence)
        looked.append(replace(choice, mapped=mapped))
    return tuple(sorted(looked, key=lambda each: not each.is_proposable))


def _mapped(
    source: TableName, choice: Choice, evidence: Callable[[Settings, Mapping[str, Any]], Evidence]
) -> Steps[tuple[str, ...]]:
    """The columns that would get a value from the auth server, except the id."""
    settings = parse_settings(
        {
            "users_table": str(choice.table),
            "source_table": str(source),
            "key": choice.key.name,
            "key_type": str(choice.key.type),
            "columns": {},
        }
    )
    about = yield from describe_table(settings)
    if about is None:
        return ()
    proposed = propose_columns(about, choice.key.name, evidence(settings, about))
    return tuple(each.name for each in proposed if each.entry is not None and _tells_of_user(each.entry))


def _tells_of_user(entry: Mapping[str, Any]) -> bool:
    if "from" in entry:
        return bool(entry["from"] != ["id"])
    words = set(re.findall(r"\w+", entry.get("expression", "")))
    return bool(words & (set(SOURCE_TYPES) - {"id"}))


def _installed(found: tuple[Choice, ...]) -> Steps[Choice | None]:
    """The users table of the settings that are stored in this database."""
    stored = yield from settings_in_database()
    if stored is None:
        return None
    return next(
        (
            replace(each, key=key)
            for each in found
            for key in each.candidate.keys
            if each.table == stored.users_table and key.name == stored.key
        ),
        None,
    )


def _new(table: TableName) -> Steps[TableName | None]:
    row = yield from query_row("select pg_catalog.to_regclass(%(table)s) as found", table=table.quoted)
    return None if row["found"] else table
