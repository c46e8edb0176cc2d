"""A user of ``auth.users``, for tests."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class AuthUser:
    """A row of auth.users at one moment, under the names of the auth server's API."""

    id: UUID
    email: str | None
    phone: str | None
    role: str
    user_metadata: Mapping[str, Any]
    app_metadata: Mapping[str, Any]
    email_confirmed_at: datetime | None
    phone_confirmed_at: datetime | None
    last_sign_in_at: datetime | None
    banned_until: datetime | None
    deleted_at: datetime | None
    created_at: datetime
    is_sso_user: bool
    is_anonymous: bool

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Create one from the result of ``GoTrue.user``."""
        metadata = {"user_metadata": row["raw_user_meta_data"], "app_metadata": row["raw_app_meta_data"]}
        named = {**row, **metadata}
        return cls(**{field.name: named[field.name] for field in fields(cls)})
