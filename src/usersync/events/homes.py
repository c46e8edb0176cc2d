"""Whether this database is the home of its webhooks and streams. A copy holds them: nothing is sent."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from usersync.core.home import CLUSTER_SQL, Home
from usersync.events.subscriptions import HANDLER, RELEASED
from usersync.transports.steps import Steps, query

if TYPE_CHECKING:
    from collections.abc import Container, Mapping


@dataclass(frozen=True)
class Homes:
    """The names of the webhooks and the streams of a database."""

    #: Those whose home is this database.
    here: frozenset[str] = frozenset()
    #: The others, each with the reason.
    held: dict[str, str] = field(default_factory=dict)
    #: The kind of each of them.
    kinds: dict[str, str] = field(default_factory=dict)


_READ = f"""
    select name, kind, state, reason, home_cluster, home_address, this.cluster
    from usersync.subscriptions
    cross join (select {CLUSTER_SQL} as cluster offset 0) as this
    where kind <> '{HANDLER}'
    order by name
"""

#: Only if nobody has changed the home since it was read.
_OF_ROW = (
    " where name = %(name)s and home_cluster is not distinct from %(old_cluster)s "
    "and home_address is not distinct from %(old_address)s"
)


def check_homes(address: str, known: Container[str]) -> Steps[Homes]:
    """Hold the webhooks and the streams that belong to another database.

    ``address`` is the address of this database, and ``known`` the subscriptions that this worker has checked
    before. Stores the home of a subscription that has none yet, and the present one if it has changed. One
    that is held and at home is active again.
    """
    here, held = set(), {}
    rows = yield from query(_READ)
    for row in rows:
        name, begins = row["name"], row["name"] not in known
        home, this = Home(row["home_cluster"], row["home_address"]), Home(row["cluster"], address)
        if home.is_at(this):
            here.add(name)
            yield from _settle(row, home, home.at(this, begins=begins))
        elif row["state"] != "paused":
            held[name] = _reason(name, home, this)
            # Workers may have different addresses: a running one does not replace the reason of another one.
            if row["state"] == "active" or (begins and row["reason"] != held[name]):
                yield from _hold(name, home, held[name])
    return Homes(frozenset(here), held, {row["name"]: row["kind"] for row in rows})


def _reason(name: str, home: Home, here: Home) -> str:
    return (
        f"it {home.describe_other(here)}. Its events wait. "
        f"If this database replaces the other one: usersync subscriptions resume {shlex.quote(name)}"
    )


def _settle(row: Mapping[str, Any], old: Home, new: Home) -> Steps[None]:
    if new == old and row["state"] != "held":
        return
    yield from query(
        "update usersync.subscriptions set home_cluster = %(cluster)s, home_address = %(address)s, "
        f"{RELEASED}{_OF_ROW}",
        cluster=new.cluster,
        address=new.address,
        **_row_of(row["name"], old),
    )


def _hold(name: str, home: Home, reason: str) -> Steps[None]:
    yield from query(
        "update usersync.subscriptions set reason = %(reason)s, "
        "state_since = case state when 'active' then now() else state_since end, "
        f"state = 'held'{_OF_ROW} and state <> 'paused'",
        reason=reason,
        **_row_of(name, home),
    )


def _row_of(name: str, home: Home) -> dict[str, str | None]:
    return {"name": name, "old_cluster": home.cluster, "old_address": home.address}
