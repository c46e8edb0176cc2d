"""Signs and reads the links of the viewer for customers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import jwt

from usersync.audit.models import EventFilter
from usersync.errors import ArgumentTypeError, ArgumentValueError, SettingsError

if TYPE_CHECKING:
    from uuid import UUID

#: The longest time that a link is valid.
LONGEST = timedelta(days=1)

_USUAL = timedelta(minutes=15)
_ALGORITHM = "HS256"
#: No other token has this audience, so that a token that another program signs with the same key is invalid.
_AUDIENCE = "usersync:viewer"
_SHORTEST_KEY = 32


class InvalidLinkError(Exception):
    """The link is expired, or no valid key has signed it."""


def viewer_link(
    address: str, *, tenant: UUID | str | int, keys: Sequence[str], expires: timedelta = _USUAL
) -> str:
    """Return a link that shows the events of one tenant. Everybody who has the link sees them.

    ``address`` is the URL at which the application of ``viewer()`` is mounted. ``tenant`` is the
    ``tenant_id`` of the events. The first of ``keys`` signs the link. ``expires`` is the time for which it is
    valid: by default 15 minutes, at most a day. Reads nothing from the database.

    Raises ``SettingsError`` for invalid keys, ``ArgumentTypeError`` and ``ArgumentValueError`` for other
    invalid arguments.
    """
    first, *_ = checked_keys(keys)
    if not isinstance(expires, timedelta):
        raise ArgumentTypeError(f"expires: expected a timedelta, got {expires!r:.80}")
    if not timedelta() < expires <= LONGEST:
        raise ArgumentValueError(f"expires: expected a time of at most one day, got {expires}")
    claims = {"tenant": checked_tenant(tenant), "aud": _AUDIENCE, "exp": datetime.now(UTC) + expires}
    return f"{address.rstrip('/')}/{jwt.encode(claims, first, _ALGORITHM)}/"


def checked_tenant(tenant: object) -> str:
    """The tenant as the log stores it. Raises ``ArgumentTypeError`` and ``ArgumentValueError``."""
    found = EventFilter(tenant_id=tenant).tenant_id  # type: ignore[arg-type]
    if found is None or found == "":
        raise ArgumentValueError("tenant: the id of the tenant is missing")
    return str(found)


def checked_keys(keys: Sequence[str]) -> tuple[str, ...]:
    """The keys, of which the first signs and all verify. Raises ``SettingsError``."""
    hint = "Make a key with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
    if isinstance(keys, str) or not isinstance(keys, Sequence) or not keys:
        raise SettingsError("keys: expected a list of keys, the one that signs first", hint=hint)
    if not all(isinstance(each, str) and len(each.encode()) >= _SHORTEST_KEY for each in keys):
        raise SettingsError(f"keys: each key must be a text of at least {_SHORTEST_KEY} bytes", hint=hint)
    return tuple(keys)


def tenant_of(token: str, keys: Sequence[str]) -> str:
    """The tenant whose events a link shows. Raises ``InvalidLinkError``."""
    for key in keys:
        try:
            claims = jwt.decode(
                token, key, [_ALGORITHM], audience=_AUDIENCE, options={"require": ["exp", "aud"]}
            )
            return checked_tenant(claims.get("tenant"))
        except (jwt.InvalidTokenError, SettingsError):
            continue
    raise InvalidLinkError
