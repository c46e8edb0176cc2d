"""Unique personal values, such as addresses, that stay in the row of a deleted user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.models import Finding
from usersync.schema.third_party_triggers import row_creators

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usersync.config.mapping import Column
    from usersync.config.settings import Settings

_KINDS = {"on_delete": "deleted", "on_soft_delete": "soft-deleted"}
_LEAVES_THE_ROW_AS_IT_IS = {"soft", "keep"}


def kept_addresses(settings: Settings, catalog: Mapping[str, Any]) -> Iterator[Finding]:
    """Findings for UNIQUE columns that keep a deleted user's address, so that a new user cannot have it."""
    for column in settings.columns:
        if column.name not in catalog["users_unique_columns"] or not column.personal:
            continue
        for setting, kind in _KINDS.items():
            if getattr(settings, setting) in _LEAVES_THE_ROW_AS_IT_IS:
                yield _finding(settings, column, setting, kind, catalog)


def _finding(
    settings: Settings, column: Column, setting: str, kind: str, catalog: Mapping[str, Any]
) -> Finding:
    table, policy = settings.users_table, getattr(settings, setting)
    return Finding(
        "D012",
        f"column {table}.{column.name}",
        f"{table}.{column.name} is UNIQUE, and {setting} = {policy!r} leaves it in the row of a {kind} user: "
        f"{_outcome(settings, column, catalog)}",
        f'-- Set {setting} = "anonymize": the row stays, and its {column.name} is free again.',
        "warning",
    )


def _outcome(settings: Settings, column: Column, catalog: Mapping[str, Any]) -> str:
    """What happens if a user signs up with the same value."""
    if creators := row_creators(settings, catalog):
        return (
            f"a new sign-up with the same {column.name} ends as without usersync, because the trigger "
            f"{creators[0].name} creates the row. If its INSERT fails, the sign-up fails"
        )
    if not settings.creates_rows:
        return f"your application cannot create another row with the same {column.name}"
    row = "no row" if catalog["users_columns"][column.name]["refuses_null"] else "a row without it"
    return f"a new user with the same {column.name} gets {row}"
