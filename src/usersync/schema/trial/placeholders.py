"""Placeholders: a value that comes from a user is replaced by the name of its source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.schema.trial.observation import NOW, VARIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from usersync.schema.trial.flows import Person

#: Columns of auth.users. If two have the same value, the first gives the name.
TIMES = (
    "created_at",
    "email_confirmed_at",
    "phone_confirmed_at",
    "confirmed_at",
    "last_sign_in_at",
    "invited_at",
    "banned_until",
    "deleted_at",
    "confirmation_sent_at",
    "updated_at",
)
METADATA = {"raw_user_meta_data": "user_metadata", "raw_app_meta_data": "app_metadata"}
#: The minimum length of a value. Shorter values occur in unrelated values by chance.
_SHORTEST = 8


class Placeholders:
    """The placeholders of one user's values before and after a request."""

    def __init__(self, person: Person, before: Mapping[str, Any], after: Mapping[str, Any], now: str) -> None:
        """``before`` and ``after`` are rows of auth.users as JSON, empty if there is none."""
        self._exact: dict[str, str] = {now: NOW}
        self._parts: dict[str, str] = {}
        self._name(str(person.id), "id")
        newest = after or before
        for named in (_columns, _metadata):
            for row, suffix in ((newest, ""), (before, " before")):
                for value, name in named(row):
                    self._name(value, f"{name}{suffix}")
        for value, name in ((person.email, "email"), (person.phone, "phone")):
            self._name(value, name)
        self._name(person.email.partition("@")[0], "local part of email")
        self._ordered = sorted(self._parts, key=len, reverse=True)

    def _name(self, value: str, name: str) -> None:
        self._exact.setdefault(value, f"<{name}>")
        if name.partition(" ")[0] in TIMES:
            # A column without a time zone has the same text without the zone.
            self._exact.setdefault(value.rpartition("+")[0] or value, f"<{name}>")
        elif len(value) >= _SHORTEST:
            self._parts.setdefault(value, f"<{name}>")

    def of_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with placeholders for the user's values."""
        return {name: self._of(value) for name, value in row.items()}

    def _of(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._of(key): self._of(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._of(each) for each in value]
        if isinstance(value, str):
            return self._exact.get(value) or self._with_parts(value)
        return value

    def _with_parts(self, value: str) -> str:
        for part in self._ordered:
            value = value.replace(part, self._parts[part])
        return value


def _columns(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("id", "email", "phone", *TIMES):
        if row.get(name):
            yield str(row[name]), name


def _metadata(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for column, name in METADATA.items():
        yield from _texts(row.get(column) or {}, name)


def _texts(data: Mapping[str, Any], name: str) -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        if isinstance(value, str) and len(value) >= _SHORTEST:
            yield value, f"{name}.{key}"
        elif isinstance(value, dict):
            yield from _texts(value, f"{name}.{key}")


def merged(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The merged rows of two users: an equal value is a constant, other values become ``<varies>``."""
    return [
        {name: _merged(value, other.get(name)) for name, value in row.items()}
        for row, other in zip(first, second, strict=True)
    ]


def _merged(one: Any, two: Any) -> Any:
    if one == two:
        return one
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return {name: _merged(value, two[name]) for name, value in one.items()}
    return VARIES
