"""Keeping a copy of the auth server's users, for an auth server that has a database of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.errors import RemovalCapError
from usersync.plans.pages import further
from usersync.transports.steps import Plan, anything, operate, time_text, uuid_text

if TYPE_CHECKING:
    from collections.abc import Sequence

UNSEEN_PAGE = 1_000


def start_receiving() -> Plan[str]:
    """The moment from which on users are seen again; raises :class:`SettingsError` where no copy is kept."""
    return (yield from operate("start_receiving", returns=time_text))  # type: ignore[no-any-return]


def receive(users: Sequence[dict[str, Any]], seen_at: str) -> Plan[int]:
    """Take users into the copy, and return how many were new there or differed."""
    return (  # type: ignore[no-any-return]
        yield from operate("receive_users", returns=int, users=list(users), seen_at=seen_at)
    )


_UNSEEN = {"unseen": int, "users": int, "allowed": int}


def check_unseen(since: str, removal_cap: float | None) -> Plan[int]:
    """How many users were not seen since; raises :class:`RemovalCapError` if those are too many."""
    row = yield from operate("count_unseen", returns=_UNSEEN, since=since)
    allowed = row["allowed"] if removal_cap is None else int(row["users"] * removal_cap)
    if row["unseen"] > allowed:
        raise RemovalCapError(
            f"the auth server does not list {row['unseen']} of {row['users']} users any more, and a run may "
            f"remove {allowed} of them. Nobody was removed",
            hint="Is it the right auth server, and did it list everybody? If they are to go, run: "
            "usersync sync --from-api --removal-cap 1",
        )
    return int(row["unseen"])


def unseen_ids(since: str, after: str | None) -> Plan[list[str]]:
    """The next users who were not seen since, by id."""
    ids: list[str] = yield from operate(
        "unseen_ids", returns=[uuid_text], since=since, after_id=after, page_size=UNSEEN_PAGE
    )
    for each in ids:
        after = further(after, each)
    return ids


def forget(user_id: str, since: str) -> Plan[None]:
    """Take a user out of the copy who is gone, unless they were seen meanwhile."""
    yield from operate("forget_user", returns=anything, user_id=user_id, since=since)
