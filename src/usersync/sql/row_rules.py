"""Which users get a row, and which rows of the users table belong to users, as SQL conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.config.mapping import quote
from usersync.sql.expressions import expression

if TYPE_CHECKING:
    from usersync.config.settings import Settings, Skip

#: When a user is skipped, by a row of the auth server's table.
_SKIPPED: dict[Skip, str] = {
    "anonymous": '{row}."is_anonymous" is true',
    # The user has an e-mail address or a phone number, and neither is confirmed. Web3 users have neither.
    "unconfirmed": '(({row}."email" is not null or {row}."phone" is not null) '
    'and {row}."email_confirmed_at" is null and {row}."phone_confirmed_at" is null)',
    "without_email": '{row}."email" is null',
}

#: The columns of the auth server's table that each condition needs.
SKIPPED_BY: dict[Skip, tuple[str, ...]] = {
    "anonymous": ("is_anonymous",),
    "unconfirmed": ("email", "phone", "email_confirmed_at", "phone_confirmed_at"),
    "without_email": ("email",),
}


def is_expected(settings: Settings, row: str) -> str:
    """Whether an auth user without a row gets one."""
    conditions = [is_not_skipped(settings, row)]
    if not settings.creates_rows:
        conditions.append("current_setting('usersync.creates_rows', true) = 'yes'")
    return " and ".join(each for each in conditions if each != "true") or "true"


def is_not_skipped(settings: Settings, row: str) -> str:
    """Whether an auth user is not one that the setting ``skip`` leaves out."""
    conditions = [f"({_SKIPPED[kind].format(row=row)}) is not true" for kind in settings.skip]
    return " and ".join(conditions) or "true"


def is_user_row(settings: Settings) -> str:
    """Whether a row ``target`` of the users table belongs to a user."""
    conditions = [f"target.{quote(each.name)} = {expression(each, '')}" for each in settings.users_where]
    if (holds_id := settings.key_type.holds_id(f"target.{quote(settings.key)}")) is not None:
        conditions.append(holds_id)
    return " and ".join(conditions) or "true"


def row_is_left_out(settings: Settings) -> str:
    """The failure's message if a row that belongs to no user has the user's id as its key, as a literal."""
    if settings.key_type.is_uuid:
        return "'A row that users_where leaves out has the id of this user.'"
    return (
        "'A row that does not belong to a user has the id of this user: its key is in upper case, or "
        "users_where leaves it out.'"
    )


def is_compared(settings: Settings) -> str:
    """Whether the auth server's row ``source``, unless deleted, and the row ``target`` must agree."""
    expected = is_expected(settings, "source")
    # If the condition does not read the row, the planner leaves out the join.
    return expected if expected == "true" else f"({expected}) or target.{quote(settings.key)} is not null"
