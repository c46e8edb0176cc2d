"""The three ways to delete a user."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import TYPE_CHECKING

from usersync.gotrue.errors import answering
from usersync.gotrue.identities import Identities
from usersync.gotrue.session import TOKENS, now

if TYPE_CHECKING:
    from uuid import UUID


class Removals(Identities):
    """Hard delete, soft delete, and the cleanup of old anonymous users."""

    def hard_delete(self, user_id: UUID) -> UUID:
        """Delete the row, with its identities, sessions, factors and tokens. Source: admin.go:627-629."""
        self.user(user_id)
        with self.request(), answering("Database error deleting user"):
            self.connection.execute("delete from auth.users where id = %s", (user_id,))
        return user_id

    def soft_delete(self, user_id: UUID) -> UUID:
        """Keep the row without personal data: 3 UPDATEs. A second call does nothing.

        E-mail and phone become hashes, even if they were empty before; both metadata columns become {};
        ``deleted_at`` is set; no ban. Identities stay, emptied and with a hash for the provider's id.
        Source: admin.go:601-625; models/user.go:1054-1116.
        """
        user = self.user(user_id)
        if user["deleted_at"]:
            return user_id
        tokens = {name: "" for name in TOKENS if name != "reauthentication_token"}
        with self.request(), answering("Error soft deleting user"):
            self._update(
                user_id,
                email=obfuscated(user_id, user["email"]),
                phone=obfuscated(user_id, user["phone"])[:15],
                encrypted_password=None,
                email_change=obfuscated(user_id, user["email_change"]),
                phone_change=obfuscated(user_id, user["phone_change"])[:15],
                **tokens,
                deleted_at=now(),
            )
            self._clear_tokens(user_id)
            self._update(user_id, raw_user_meta_data={})
            self._update(user_id, raw_app_meta_data={})
            self._soft_delete_identities(user_id)
            self._log_out(user_id)
        return user_id

    def _soft_delete_identities(self, user_id: UUID) -> None:
        for identity in self._identities(user_id):
            self._set_identity_data(identity["id"], {})
            hashed = obfuscated(user_id, f"{identity['provider']}:{identity['provider_id']}")
            statement = "update auth.identities set provider_id = %s where id = %s"
            self.connection.execute(statement, (hashed, identity["id"]))

    def _log_out(self, user_id: UUID) -> None:
        self.connection.execute("delete from auth.mfa_factors where user_id = %s", (user_id,))
        self.connection.execute("delete from auth.sessions where user_id = %s", (user_id,))

    def cleanup_anonymous(self) -> int:
        """Delete at most 100 anonymous users older than 30 days; return how many.

        Runs after requests where anonymous sign-ins and DB.CleanupEnabled are on. Source: cleanup.go:67-72.
        """
        statement = """
            delete from auth.users where id in (
              select id from auth.users
              where is_anonymous and created_at < now() - interval '30 days'
              limit 100 for update skip locked)
        """
        with self.request():
            return self.connection.execute(statement).rowcount


def obfuscated(user_id: UUID, value: str | None) -> str:
    """Return what GoTrue writes over a personal value: base64url(sha256(id + value)), 43 characters."""
    digest = sha256(f"{user_id}{value or ''}".encode()).digest()
    return urlsafe_b64encode(digest).decode().rstrip("=")
