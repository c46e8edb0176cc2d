"""The home of a subscription or of a stream: the database that it belongs to. A copy is another database."""

from __future__ import annotations

from dataclasses import dataclass

from usersync.config.database_address import certainty, is_project

#: The column of a query: the system identifier of the cluster and the database's oid.
CLUSTER_SQL = "split_part(usersync.database_position(), ' ', 2)"


@dataclass(frozen=True)
class Home:
    """A database, as far as it is known: its cluster (system identifier and oid), and its address."""

    cluster: str | None = None
    address: str | None = None

    @property
    def is_unknown(self) -> bool:
        """Whether nothing is known: the first database is the home."""
        return self.cluster is None and self.address is None

    def is_at(self, here: Home) -> bool:
        """Whether ``here`` is this database, and not a copy.

        Two projects of Supabase are two databases, even with the same cluster: a physical copy has it.
        Otherwise, the cluster or the address must be the same. An address that means another database in
        another network, such as "localhost", proves nothing.
        """
        if self.is_unknown:
            return True
        if is_project(self.address) and is_project(here.address):
            return self.address == here.address
        is_same_address = self.address == here.address and certainty(self.address) > 0
        return self.cluster == here.cluster or is_same_address

    def at(self, here: Home, *, begins: bool) -> Home:
        """What to store, if ``here`` is this database.

        Workers may reach a database by several addresses. So a worker replaces an address only when it
        begins, or if its own address is more certain, and never by a less certain one.
        """
        known, new = certainty(self.address), certainty(here.address)
        replaces = self.address is None or new > known or (begins and new == known)
        return Home(here.cluster, here.address if replaces else self.address)

    def describe_other(self, here: Home) -> str:
        """That this home is another database than ``here``, as a part of a sentence."""
        by_cluster = self.address is None or here.address is None or self.address == here.address
        return (
            f"belongs to {self.describe(by_cluster=by_cluster)}. "
            f"This is {here.describe(by_cluster=by_cluster)}: a copy, or production has moved"
        )

    def describe(self, *, by_cluster: bool = False) -> str:
        """The database by its address. Adds its cluster if there is no address, or with ``by_cluster``."""
        if is_project(self.address):
            text = f"the database of {self.address}"
        else:
            text = f"the database {self.address}" if self.address else "a database"
        return f"{text} in the cluster {self.cluster}" if by_cluster or not self.address else text
