"""Rows of the users table that do not belong to users, and the column that distinguishes them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usersync.config.mapping import quote
from usersync.schema.init.question import Answer, Question
from usersync.schema.init.survey import or_none, set_time_limit
from usersync.schema.init.toml import toml
from usersync.schema.trigger_parser import Value
from usersync.sql.expressions import literal
from usersync.transports.steps import query_row, read_only

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usersync.config.settings import Settings
    from usersync.transports.steps import Row, Steps

#: Names of columns that classify a row. Another column may have the same value for all users by chance.
_KIND = re.compile(
    r"(^|_)(kind|type|personal|team|user|human|bot|system|service|organi[sz]ation|org|company|category)(_|$)"
)
#: The maximum number of answers.
_MOST_ANSWERS = 3
#: Booleans, enumerations and text.
_CATEGORIES = {"B", "E", "S"}
#: A function takes at most 100 arguments, and each column needs two.
_MOST_COLUMNS = 40


@dataclass(frozen=True)
class Division:
    """How rows with the id of an auth user differ from other rows."""

    users: int = 0
    others: int = 0
    #: Columns with the same value in all rows of users and in no other row, and the value.
    dividing: Mapping[str, Any] = field(default_factory=dict)

    def classifying(self, written: Mapping[str, Value | None]) -> dict[str, Any]:
        """The columns whose name classifies a row and that agree with what a hand-written trigger writes."""
        return {
            name: value
            for name, value in self.dividing.items()
            if _KIND.search(name.lower()) and written.get(name, Value(default=value)) == Value(default=value)
        }


def find_division(settings: Settings, about: Mapping[str, Any]) -> Steps[Division]:
    """Find columns that distinguish rows of users from other rows, in a sample of 1,000 rows of each."""
    names = [
        column["name"]
        for column in about["columns"]
        if column["category"] in _CATEGORIES and not column["is_array"] and not column["is_unique"]
        and column["name"] != settings.key and not column["by_itself"]
    ]  # fmt: skip

    def look() -> Steps[Row]:
        yield from set_time_limit()
        return (yield from query_row(_sampled(settings, names[:_MOST_COLUMNS])))

    found = yield from or_none(read_only(look()))
    if not found or not found["users"] or not found["others"]:
        return Division()
    dividing = {name: _constant(found["values"][name]) for name in names[:_MOST_COLUMNS]}
    return Division(
        found["users"],
        found["others"],
        {name: value for name, value in dividing.items() if value is not None},
    )


def _constant(values: Mapping[str, Any]) -> Any:
    """The only value of the users' rows; None if they have several, or other rows have it too."""
    users, others = values["users"] or [None], values["others"] or []
    return users[0] if len(users) == 1 and users[0] not in others else None


def _sampled(settings: Settings, names: list[str]) -> str:
    key, table = quote(settings.key), settings.users_table.quoted
    exists = (
        f"exists (select from {settings.source_table.quoted} as source "
        f"where source.id::text = one.{key}::text)"
    )
    sample = f"select one.* from {table} as one where one.{key} is not null and {{}}{exists} limit 1000"
    values = ", ".join(
        f"{literal(name)}, jsonb_build_object("
        f"'users', (select jsonb_agg(distinct to_jsonb(one.{quote(name)})) from users as one), "
        f"'others', (select jsonb_agg(distinct to_jsonb(one.{quote(name)})) from others as one))"
        for name in names
    )
    return (
        f"with users as materialized ({sample.format('')}), others as materialized ({sample.format('not ')}) "
        f"select (select count(*) from users) as users, (select count(*) from others) as others, "
        f"jsonb_build_object({values}) as values"
    )


def question_of_users_where(settings: Settings, division: Division) -> Question | None:
    """The question whether rows without an auth user are users; None if no column distinguishes them."""
    if not division.dividing:
        return None
    rows = "1 row has" if division.others == 1 else f"{division.others:,} rows have"
    text = (
        f"In {settings.users_table}, {rows} no auth user. Did they belong to users who were deleted? Or do "
        "they contain something else, for instance teams?"
    )
    others = [
        Answer(f"Only rows with {name} = {toml(value)} are users", {"users_where": {name: value}})
        for name, value in list(division.dividing.items())[:_MOST_ANSWERS]
    ]
    return Question("users_where", text, (Answer("They belonged to deleted users"), *others))
