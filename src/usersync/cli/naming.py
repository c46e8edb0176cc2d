"""Whom an argument means: an id, an e-mail address or a phone number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.errors import SettingsError, UserNotFoundError

if TYPE_CHECKING:
    from uuid import UUID

    from usersync.cli.options import Call


def named_user(call: Call, text: str) -> UUID:
    """The id of the one user who is meant; raises where it is nobody, or several."""
    from usersync.core import why  # noqa: PLC0415 - only when it is wanted

    settings = call.settings_there
    found = call.run(why.find_users(settings, text))
    if not found:
        raise UserNotFoundError(
            f"nobody in {settings.source_table} has this address or number",
            hint="A deleted user is found by id only.",
        )
    if len(found) > 1:
        raise SettingsError(
            f"{len(found)} users have this address: {', '.join(map(str, found))}", hint="Name one by id."
        )
    return found[0]
