"""The user of a verified token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

if TYPE_CHECKING:
    from usersync.audit.event.fields import ContextFields


@dataclass(frozen=True)
class VerifiedUser:
    """The user of a verified token, with the values that the auth server had when it issued the token.

    ``claims`` are all of the token's claims (https://supabase.com/docs/guides/auth/jwt-fields). Of these
    users can write ``user_metadata`` themselves: never derive permissions from it.
    """

    id: UUID
    #: The database role, ``authenticated`` unless the application accepts others.
    role: str
    is_anonymous: bool
    #: The session of the auth server; None if the token has none.
    session_id: str | None
    #: The authenticator assurance level: ``aal1``, or ``aal2`` after a second factor.
    aal: str | None
    expires_at: datetime
    email: str | None = field(repr=False)
    phone: str | None = field(repr=False)
    claims: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any]) -> Self:
        """The user of verified claims. Raises ``ValueError`` or a similar error if they name none."""
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

    @property
    def actor(self) -> ContextFields:
        """Who acts, as fields of the audit context: ``actor_id``, and ``on_behalf_of`` with impersonation.

        A token of an impersonation names the user in ``sub``, and the person who really acts in ``act`` (RFC
        8693).
        """
        acting = self.claims.get("act")
        real = _text(acting.get("sub")) if isinstance(acting, Mapping) else None
        user = str(self.id)
        return {"actor_id": real, "on_behalf_of": user} if real else {"actor_id": user}


def _text(value: object) -> str | None:
    """GoTrue writes a missing e-mail or phone number as an empty string."""
    return value if isinstance(value, str) and value else None
