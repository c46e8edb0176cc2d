"""The objects of usersync that roles other than their owner may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from usersync.sql.render import render_catalog
from usersync.transports.steps import PIN_SEARCH_PATH, query

if TYPE_CHECKING:
    from usersync.config.settings import Settings
    from usersync.transports.steps import Steps


@dataclass(frozen=True)
class ExposedObject:
    """An object of usersync that PUBLIC or roles of the Data API may use."""

    #: ``schema``, ``table``, ``function``.
    kind: str
    name: str
    of_schema: str
    roles: tuple[str, ...]
    #: Whether a REVOKE removes the privilege. Otherwise the role has it as a member of another role.
    direct: bool

    @property
    def label(self) -> str:
        """``function public.user_sync_status()``."""
        return f"{self.kind} {self.name}"

    @property
    def revoke(self) -> str:
        """SQL that revokes the privilege. service_role keeps EXECUTE, which it may have only through
        PUBLIC.
        """
        grantees = ", ".join(self.roles)
        if not self.direct:
            return (
                f"-- {grantees} may use it as a member of another role. See which:\n"
                "select member::regrole, roleid::regrole from pg_auth_members "
                f"where member::regrole::text in ({', '.join(repr(role) for role in self.roles)});"
            )
        revoke = f"revoke all on {self.label} from {grantees};"
        if self.kind == "function" and self.of_schema == "public":
            revoke += f"\ngrant execute on function {self.name} to service_role;"
        return revoke


def find_exposed_objects(settings: Settings) -> Steps[tuple[ExposedObject, ...]]:
    """Read the privileges of every object from the catalog."""
    rows = yield from query(PIN_SEARCH_PATH + render_catalog("exposed_objects", settings))
    return tuple(
        ExposedObject(row["kind"], row["name"], row["of_schema"], tuple(row["roles"]), row["direct"])
        for row in rows
    )
