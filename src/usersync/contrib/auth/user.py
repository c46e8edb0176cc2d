"""What a token says about its user, once it has been checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class VerifiedUser:
    """A user whose token was checked, as the auth server knew them when it issued it.

    ``claims`` are all of the token's claims (https://supabase.com/docs/guides/auth/jwt-fields). Of these
    ``user_metadata`` can be written by the user, and says nothing about what they may do.
    """

    id: UUID
    #: The database role, ``authenticated`` unless the application accepts others.
    role: str
    is_anonymous: bool
    #: The session at the auth server; None if the token names none.
    session_id: str | None
    #: The authenticator assurance level: ``aal1``, or ``aal2`` after a second factor.
    aal: str | None
    expires_at: datetime
    email: str | None = field(repr=False)
    phone: str | None = field(repr=False)
    claims: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any]) -> Self:
        """Read claims that were checked. Raises ``ValueError`` and the like for what is no user."""
        return cls(
            id=UUID(claims["sub"]),
            role=claims["role"],
            is_anonymous=claims.get("is_anonymous") is True,
            session_id=_text(claims.get("session_id")),
            aal=_text(claims.get("aal")),
            expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC),
            email=_text(claims.get("email")),
            phone=_text(claims.get("phone")),
            claims=MappingProxyType(dict(claims)),
        )


def _text(value: object) -> str | None:
    """GoTrue writes an address that there is not as an empty text."""
    return value if isinstance(value, str) and value else None
