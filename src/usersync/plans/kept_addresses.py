"""Addresses that a deletion leaves in the row, where no other row may have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.models import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usersync.mapping import Column
    from usersync.settings import Settings

_KINDS = {"on_delete": "deleted", "on_soft_delete": "soft-deleted"}
_LEAVES_THE_ROW_AS_IT_IS = {"soft", "keep"}


def kept_addresses(settings: Settings, catalog: Mapping[str, Any]) -> Iterator[Finding]:
    """What becomes of a user who signs up again with the address of a deleted user, and gets it no more."""
    for column in settings.columns:
        if column.name not in catalog["users_unique_columns"] or not column.personal:
            continue
        for setting, kind in _KINDS.items():
            if getattr(settings, setting) in _LEAVES_THE_ROW_AS_IT_IS:
                yield _finding(settings, column, setting, kind, catalog["users_columns"][column.name])


def _finding(
    settings: Settings, column: Column, setting: str, kind: str, about: Mapping[str, Any]
) -> Finding:
    table, policy = settings.users_table, getattr(settings, setting)
    row = "no row" if about["refuses_null"] else "a row without it"
    return Finding(
        "D012",
        f"column {table}.{column.name}",
        f"{table}.{column.name} is UNIQUE, and {setting} = {policy!r} leaves it in the row of a {kind} user: "
        f"a user who signs up with the same {column.name} again gets {row}",
        f'-- Set {setting} = "anonymize": the row stays, and its {column.name} is free again.',
        "warning",
    )
