"""Binds a spool to the database that its events are for.

At the first contact, a spool stores two ids: that of the installation (``usersync.settings``), and that of
the cluster, because a restored copy of the database has the same installation. Before the first contact, the
complete connection string is compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from usersync.audit.delivery.protocol import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from usersync.core.position import DatabasePosition


class WrongDatabaseError(UnavailableError):
    """The connected database is not the one that the events are for."""


@dataclass(frozen=True)
class Destination:
    """The destination of a process's events.

    ``address`` is None if the process only records; ``project`` is the application's name for the database.
    """

    address: str | None = None
    project: str | None = None
    #: The name of the spool's directory.
    directory: str = ""
    #: The directory name of releases before 0.2; None if another project may have the same name.
    former: str | None = None


@dataclass(frozen=True)
class Origin:
    """What a spool file stores about the database of its events."""

    destination: Destination = Destination()
    position: DatabasePosition | None = None
    #: Created by a release before 0.2, which stored nothing about the database.
    is_former: bool = False

    @property
    def target(self) -> str:
        """The database, for messages."""
        named = self.destination.address or (
            f"project {self.destination.project}" if self.destination.project else "any database"
        )
        return f"{named} (installation {self.position.installation})" if self.position else named


class DatabaseBinding:
    """Binds a source of events to its database."""

    def __init__(
        self, destination: Destination, origin: Origin, remember: Callable[[DatabasePosition], None]
    ) -> None:
        self._destination = destination
        self._remember = remember
        self.origin = origin

    def check_database(self, position: DatabasePosition | None) -> str:
        """Return the beginning of the position that the database must have to receive the events.

        Raises ``WrongDatabaseError`` if it is another database. The first database seen is remembered.
        """
        known = self.origin.position
        if known is None:
            if position is None:
                return "*"
            self._remember(position)
            known = position
            self.origin = replace(self.origin, position=position)
        if position is None:
            raise WrongDatabaseError(
                f"these events are for installation {known.installation}, and the database has no "
                "installation id: run usersync apply with this release"
            )
        if not belongs(self.origin, self._destination, position):
            raise WrongDatabaseError(
                f"these events are for {self.origin.target}, and the connected database is another one "
                f"(installation {position.installation}). If it replaces the former database: restart this "
                "process, and run usersync audit spool --drain --confirm-project"
            )
        same_address = self.origin.destination.address == self._destination.address
        return known.installation if same_address else f"{known.installation} {known.cluster}"

    def moved(self, position: DatabasePosition | None) -> bool:
        """Whether the database is on another timeline or in another cluster than the remembered one."""
        known = self.origin.position
        return known is not None and position is not None and known != position

    def accept_position(self, position: DatabasePosition) -> None:
        """Remember the database's current position."""
        self._remember(position)
        self.origin = replace(self.origin, position=position)


def belongs(origin: Origin, destination: Destination, position: DatabasePosition) -> bool:
    """Whether a file that remembers a database may be sent to the database of ``destination``."""
    known = origin.position
    if known is None or known.installation != position.installation:
        return False
    return known.cluster == position.cluster or (
        origin.destination.address is not None and origin.destination.address == destination.address
    )


def is_expected(origin: Origin, destination: Destination, directory: str) -> bool:
    """Whether a file that was never sent is for the database of ``destination``."""
    own = directory == destination.directory
    if origin.is_former:
        named = own and destination.project is not None and not _MADE_FROM_ADDRESS.search(directory)
        return named or directory == destination.former
    theirs = origin.destination
    if theirs.address is not None and theirs.address == destination.address:
        return True
    if theirs.project is not None:
        return theirs.project == destination.project
    # Recorded without a connection string and without a project: for any process with that spool directory.
    return theirs.address is None and own


_MADE_FROM_ADDRESS = re.compile(r"-[0-9a-f]{8}\Z")
