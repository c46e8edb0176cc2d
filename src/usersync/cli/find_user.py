"""Finds the user that an argument names: by id, e-mail address or phone number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.errors import SettingsError, UserNotFoundError

if TYPE_CHECKING:
    from uuid import UUID

    from usersync.cli.options import Call


def find_user(call: Call, text: str) -> UUID:
    """The user's id. Raises ``UsersyncError`` if no user, or more than one, is found."""
    from usersync.core import why  # noqa: PLC0415 - only if used

    settings = call.applied_settings
    found = call.run(why.find_users(settings, text))
    if not found:
        raise UserNotFoundError(
            f"no user in {settings.source_table} has this e-mail address or phone number",
            hint="Deleted users can only be found by id.",
        )
    if len(found) > 1:
        raise SettingsError(
            f"{len(found)} users have this e-mail address or phone number: {', '.join(map(str, found))}",
            hint="Pass the id of one of them.",
        )
    return found[0]
