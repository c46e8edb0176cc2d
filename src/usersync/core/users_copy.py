"""The copy of the auth server's users, for an auth server that has a separate database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.core.paging import next_after
from usersync.transports.steps import Steps, anything, operate, time_text, uuid_text

if TYPE_CHECKING:
    from collections.abc import Sequence

UNSEEN_PAGE = 1_000


def start_update() -> Steps[str]:
    """The time at which the update starts. Raises ``SettingsError`` if the database has no copy."""
    return (yield from operate("start_receiving", returns=time_text))  # type: ignore[no-any-return]


def write_users(users: Sequence[dict[str, Any]], seen_at: str) -> Steps[int]:
    """Write users to the copy, and return how many were new or changed."""
    return (  # type: ignore[no-any-return]
        yield from operate("receive_users", returns=int, users=list(users), seen_at=seen_at)
    )


def count_unseen(since: str) -> Steps[int]:
    """The number of users of the copy who were not seen since then."""
    row = yield from operate("count_unseen", returns={"unseen": int, "users": int}, since=since)
    return int(row["unseen"])


def unseen_ids(since: str, after: str | None) -> Steps[list[str]]:
    """The next page of users who were not seen since then, by id."""
    ids: list[str] = yield from operate(
        "unseen_ids", returns=[uuid_text], since=since, after_id=after, page_size=UNSEEN_PAGE
    )
    for each in ids:
        after = next_after(after, each)
    return ids


def delete_user(user_id: str, since: str) -> Steps[None]:
    """Delete a user from the copy, unless seen meanwhile. The copy's trigger applies ``on_delete``."""
    yield from operate("forget_user", returns=anything, user_id=user_id, since=since)
