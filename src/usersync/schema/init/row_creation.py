"""Evidence that the application creates the rows of the users table, and the question about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usersync.config.mapping import quote
from usersync.schema.init.columns import advised_default
from usersync.schema.init.question import Answer, Question
from usersync.schema.third_party_triggers import listed
from usersync.sql.render import read_sql
from usersync.transports.steps import query_row, read_only

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from usersync.config.settings import Settings
    from usersync.schema.init.table_choice import Choice
    from usersync.schema.init.trial_evidence import Observed
    from usersync.schema.third_party_triggers import ThirdPartyTrigger
    from usersync.transports.steps import Steps


@dataclass(frozen=True)
class RowCreation:
    """Evidence that the application creates rows, or changes values that usersync would write."""

    #: Whether a trigger on the auth server's table creates the row of a new user.
    has_trigger: bool = False
    #: Policies by which a signed-in user may insert a row.
    policies: tuple[str, ...] = ()
    #: Functions of the application that update a column, by column.
    updated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: The same, without trigger functions of the auth server's table.
    updated_elsewhere: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rows_of_users: int = 0
    rows_without_key: int = 0


def find_row_creation(
    settings: Settings, chosen: Choice, found: tuple[ThirdPartyTrigger, ...], observed: Observed
) -> Steps[RowCreation]:
    """Collect the evidence."""
    names = {"users_table": settings.users_table.quoted, "source_table": settings.source_table.quoted}
    row = yield from read_only(query_row(read_sql("survey/row_creators.sql"), **names))
    presence = chosen.presence
    return RowCreation(
        bool(observed.made) or any(_creates_rows(each, settings) for each in found),
        tuple(row["policies"]) if row["may_insert"] else (),
        {name: _names(functions) for name, functions in row["updated"].items()},
        {name: _names(functions, elsewhere=True) for name, functions in row["updated"].items()},
        presence.known if presence else 0,
        presence.without_key if presence else 0,
    )


def _names(functions: list[Mapping[str, Any]], *, elsewhere: bool = False) -> tuple[str, ...]:
    return tuple(each["name"] for each in functions if not (elsewhere and each["is_of_source"]))


def _creates_rows(each: ThirdPartyTrigger, settings: Settings) -> bool:
    inserts = any(write.kind == "insert" and write.table == settings.users_table for write in each.effects)
    return inserts or each.creates_the_row


def question_of_rows(
    settings: Settings, evidence: RowCreation, lacking: Sequence[Mapping[str, Any]]
) -> Question | None:
    """The question who creates the row of a new user; None without evidence for the application.

    ``lacking`` are the columns that usersync could not fill.
    """
    sentences = list(_evidence(settings, evidence))
    if not sentences:
        return None
    if evidence.rows_without_key or settings.key in evidence.updated:
        risk = "the user's earlier row stays without a key, and an UPDATE that sets its key fails"
    else:
        risk = "an INSERT of your application for the same user fails"
    text = (
        f"Who creates the row of a new user in {settings.users_table}? {' '.join(sentences)} "
        f"If usersync creates the row at the sign-up, {risk} (duplicate key).{_lacking(settings, lacking)}"
    )
    return Question(
        "creates_rows",
        text,
        (
            Answer("The application, as today", {"creates_rows": False}),
            Answer("usersync, in the transaction of the sign-up", {"creates_rows": True}),
        ),
        "Your application seems to create the rows today. usersync keeps them in sync.",
    )


def _evidence(settings: Settings, evidence: RowCreation) -> Iterator[str]:
    if evidence.has_trigger:
        return
    key = settings.key
    if evidence.rows_without_key:
        rows = "1 row has" if evidence.rows_without_key == 1 else f"{evidence.rows_without_key:,} rows have"
        yield f"{rows} no value in {key} and may belong to users who have not signed up yet."
    if functions := evidence.updated.get(key):
        yield f"{listed(functions)} {'updates' if len(functions) == 1 else 'update'} {key}."
    if evidence.rows_of_users:
        yield f"Auth users have rows, and no trigger on {settings.source_table} creates them."
    if evidence.policies:
        yield f"A signed-in user may insert a row (policy {listed(evidence.policies)})."


def _lacking(settings: Settings, columns: Sequence[Mapping[str, Any]]) -> str:
    """The columns that usersync cannot fill, and the statements that give them a default."""
    if not columns:
        return ""
    alter = " ".join(
        f"alter table {settings.users_table.quoted} alter column {quote(each['name'])} "
        f"set default {advised_default(each)};"
        for each in columns
    )
    names = listed(tuple(each["name"] for each in columns))
    return f" Before that, {names} {'needs' if len(columns) == 1 else 'need'} a default in the table: {alter}"
