"""The position of a database: its installation, cluster and timeline."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TEXT = re.compile(r"([0-9a-f-]{36}) (\d+/\d+)(?: ([0-9A-F]{8}))?")


@dataclass(frozen=True)
class DatabasePosition:
    """The position of a database. ``cluster`` is the system identifier and the database's oid.

    A failover or a restore to a point in time begins a new timeline. A standby does not report its timeline.
    """

    installation: str
    cluster: str
    timeline: str = ""

    @classmethod
    def read(cls, text: object) -> DatabasePosition | None:
        """Parse the result of ``usersync.database_position()``. None for anything else, and for a database
        without a row in ``usersync.settings``, whose installation is unknown."""
        found = _TEXT.fullmatch(text) if isinstance(text, str) else None
        return cls(found[1], found[2], found[3] or "") if found else None

    def __str__(self) -> str:
        return f"{self.installation} {self.cluster} {self.timeline}".strip()
