"""Finds the user that an argument names: by id, e-mail address or phone number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.cli.text import clip, count
from usersync.errors import SettingsError, UserNotFoundError

if TYPE_CHECKING:
    from uuid import UUID

    from usersync.cli.options import Call


def find_user(call: Call, text: str, *, by_name: bool = False) -> UUID:
    """The user's id. Raises ``UsersyncError`` if no user, or more than one, is found.

    ``by_name``: if no user has this e-mail address or phone number, search for the name.
    """
    from usersync.core import why  # noqa: PLC0415 - only if used

    settings = call.applied_settings
    found = call.run(why.find_users(settings, text))
    if not found and by_name:
        found = _find_by_name(call, text)
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


def _find_by_name(call: Call, text: str) -> list[UUID]:
    """A user with this name, if there is exactly one for certain."""
    from usersync.core import user_names  # noqa: PLC0415 - only if used

    found = call.run(user_names.find_by_name(call.applied_settings, text))
    if found is None or (not found.users and not found.is_cut):
        return []
    if len(found.users) == 1 and not found.is_cut:
        return [found.users[0].user_id]
    note = user_names.note(found)
    if not found.users:
        raise UserNotFoundError("no user has this e-mail address, phone number or name", hint=note)
    users = ", ".join(f"{each.user_id} {clip(each.name, 40)}" for each in found.users)
    raise SettingsError(
        f"{count(len(found.users), 'user')} found by name: {users}",
        hint=f"Pass the id of one of them. {note}",
    )
