"""The missing privileges of the roles that usersync and the auth server use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from usersync.sql.render import render_catalog
from usersync.transports.steps import PIN_SEARCH_PATH, query

if TYPE_CHECKING:
    from usersync.config.settings import Settings
    from usersync.transports.steps import Steps


@dataclass(frozen=True)
class MissingPrivilege:
    """A privilege that a role lacks."""

    #: This role installs and reconciles. The functions run as the owner of the schema ``usersync``.
    part: Literal["this role", "owner", "auth server"]
    role: str
    #: ``SELECT, UPDATE on table auth.users``.
    what: str
    #: ``table auth.users``.
    subject: str
    #: SQL that grants it, with the role that may run it where this role may not.
    fix: str

    def __str__(self) -> str:
        return f"role {self.role} lacks {self.what}"


def missing_privileges(settings: Settings) -> Steps[tuple[MissingPrivilege, ...]]:
    """Find missing privileges in the catalog."""
    rows = yield from query(PIN_SEARCH_PATH + render_catalog("privileges", settings))
    return tuple(MissingPrivilege(**row) for row in rows)
