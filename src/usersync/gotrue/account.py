"""Requests of existing users: signing in, and changes in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.gotrue.creation import PASSWORD_HASH
from usersync.gotrue.errors import GoTrueError, answering
from usersync.gotrue.identities import Identities
from usersync.gotrue.session import TOKENS, now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from uuid import UUID


class Accounts(Identities):
    """Sign-in, metadata, role and ban."""

    def confirm(self, user_id: UUID) -> UUID:
        """Follow the link in the mail, or enter the code of the text message, after sign-up or invitation.

        4 UPDATEs for an e-mail (confirmation; ``email_verified``; app metadata; last_sign_in_at), 3 for a
        phone; one more before them for an invited user, who is given a password. Source: verify.go,
        verifyPost, signupVerify and smsVerify.
        """
        user = self.user(user_id)
        with self.request():
            if user["invited_at"] and not user["encrypted_password"]:
                self._set_temporary_password(user_id)
            with answering("Error confirming user"):
                self._confirm_contact(user)
            self._merge_providers(user_id)
            self._grant(user_id)
        return user_id

    def _confirm_contact(self, user: Mapping[str, Any]) -> None:
        if user["phone"] and not user["email"]:
            self._confirm_phone(user["id"])
            return
        self._confirm_email(user["id"])
        for identity in self._identities(user["id"]):
            if identity["email"] and identity["email"] == user["email"]:
                data = {**identity["identity_data"], "email_verified": True}
                self._set_identity_data(identity["id"], data)

    def _set_temporary_password(self, user_id: UUID) -> None:
        """One UPDATE that also revokes every token that was sent (models/user.go, UpdatePassword)."""
        sent = ("confirmation", "recovery", "email_change", "phone_change", "reauthentication")
        times = {f"{name}_sent_at": None for name in sent}
        with answering("Error storing password"):
            self._update(user_id, encrypted_password=PASSWORD_HASH, **dict.fromkeys(TOKENS, ""), **times)
            self._clear_tokens(user_id)

    def sign_in(self, user_id: UUID) -> UUID:
        """Sign in by password: 1 UPDATE (last_sign_in_at). A banned user is answered 400 ``user_banned``.

        Source: token.go, ResourceOwnerPasswordGrant; tokens/service.go:891-911.
        """
        user = self.user(user_id)
        if user["deleted_at"]:
            raise GoTrueError(400, "invalid_credentials", "Invalid login credentials")
        if user["banned_until"] and user["banned_until"] > now():
            raise GoTrueError(400, "user_banned", "User is banned")
        with self.request():
            self._grant(user_id)
        return user_id

    def sign_in_oauth(self, user_id: UUID, *, claims: Mapping[str, Any] | None = None) -> UUID:
        """Sign in through a provider: 3 UPDATEs, two of which set metadata, mostly to what it was.

        ``claims`` is what the provider says differently from last time; it overwrites user metadata.
        Source: external.go:383-396.
        """
        statement = "select * from auth.identities where user_id = %s order by created_at desc limit 1"
        identity = self._row(statement, user_id)
        if identity is None:
            raise GoTrueError(404, "identity_not_found", "Identity doesn't exist")
        data = {**identity["identity_data"], **(claims or {})}
        with self.request():
            self._set_identity_data(identity["id"], data)
            self._merge(user_id, "raw_user_meta_data", data)
            self._merge_providers(user_id)
            self._grant(user_id)
        return user_id

    def refresh_token(self, user_id: UUID) -> UUID:
        """Refresh an access token, algorithm v1: 1 UPDATE, which sets last_sign_in_at to what it was.

        Happens hourly for each active user. Source: refresh_token.go:175-208; models/refresh_token.go,
        createRefreshToken.
        """
        with self.request():
            self.connection.execute(
                "update auth.refresh_tokens set revoked = true, updated_at = %s where user_id = %s",
                (now(), str(user_id)),
            )
            last = self.user(user_id)["last_sign_in_at"]
            self._update(user_id, last_sign_in_at=last)
        return user_id

    def update_user_metadata(self, user_id: UUID, **data: Any) -> UUID:
        """Write user metadata, as any user may, 1 UPDATE; None deletes a key. Source: user.go:239."""
        with self.request("Error updating user"):
            self._merge(user_id, "raw_user_meta_data", data)
        return user_id

    def update_app_metadata(self, user_id: UUID, **data: Any) -> UUID:
        """Write app metadata as only an administrator may, 1 UPDATE. Source: admin.go:330-345."""
        with self.request("Error updating user"):
            self._merge(user_id, "raw_app_meta_data", data)
        return user_id

    def set_role(self, user_id: UUID, role: str) -> UUID:
        """Set the PostgreSQL role claim, 1 UPDATE. Source: admin.go; models/user.go, SetRole."""
        with self.request("Error updating user"):
            self._update(user_id, role=role)
        return user_id

    def ban(self, user_id: UUID, duration: timedelta) -> UUID:
        """Ban until now + ``duration``, 1 UPDATE. Source: models/user.go:987-995."""
        with self.request("Error updating user"):
            self._update(user_id, banned_until=now() + duration)
        return user_id

    def unban(self, user_id: UUID) -> UUID:
        """Lift a ban, 1 UPDATE to NULL. Source: models/user.go:987-995."""
        with self.request("Error updating user"):
            self._update(user_id, banned_until=None)
        return user_id
