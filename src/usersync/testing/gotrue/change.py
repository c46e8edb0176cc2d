"""How a user's address, phone and identities change: over several requests, of which the last one counts."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from usersync.testing.gotrue.errors import GoTrueError, answering
from usersync.testing.gotrue.identities import Identities
from usersync.testing.gotrue.session import now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID


class Changes(Identities):
    """Changes of e-mail and phone, from anonymous to permanent, linking and unlinking."""

    def request_email_change(self, user_id: UUID, email: str) -> UUID:
        """Ask for another address: 1 UPDATE of ``email_change`` and its tokens; ``email`` stays.

        Source: mail.go, sendEmailChange.
        """
        current = self.user(user_id)["email"]
        self._refuse_taken("email", email.lower())
        columns = {"email_change": email.lower(), "email_change_confirm_status": 0}
        tokens = {"email_change_token_new": email.lower(), "email_change_token_current": current}
        sent = {name: secrets.token_hex(28) for name, relates_to in tokens.items() if relates_to}
        with self.request():
            self._update(user_id, **columns, **sent, email_change_sent_at=now())
            for name, token in sent.items():
                self._store_token(user_id, name, tokens[name], token)
        return user_id

    def confirm_email_change(self, user_id: UUID) -> UUID:
        """Follow one of the two links. The first sets only the status; the last one sets ``email``.

        A user without an address has one link only. Source: verify.go:545-624; models/user.go:564-611.
        """
        user = self.user(user_id)
        if user["email"] and user["email_change_confirm_status"] == 0:
            with self.request():
                self._update(user_id, email_change_confirm_status=1, email_change_token_current="")
            return user_id
        with self.request():
            self._finish_email_change(user)
            self._merge_providers(user_id)
            self._grant(user_id)
        return user_id

    def _finish_email_change(self, user: Mapping[str, Any]) -> None:
        user_id, email = user["id"], user["email_change"]
        self._verify_own(user_id, "email", email)
        if user["is_anonymous"]:
            self._update(user_id, is_anonymous=False)
        tokens = {"email_change_token_current": "", "email_change_token_new": ""}
        with answering("Error confirm email"):
            self._update(user_id, email=email, email_change="", **tokens, email_change_confirm_status=0)
            self._clear_tokens(user_id)
            if not user["email_confirmed_at"]:
                self._confirm_email(user_id)

    def change_email(self, user_id: UUID, email: str) -> UUID:
        """Ask for another address and follow every link that is sent."""
        self.request_email_change(user_id, email)
        while self.user(user_id)["email_change"]:
            self.confirm_email_change(user_id)
        return user_id

    def change_phone(self, user_id: UUID, phone: str) -> UUID:
        """Change the phone and enter the code: UPDATE of ``phone_change``; in a second request, of ``phone``.

        An anonymous user becomes permanent by it, after ``phone`` is set. Source: phone.go,
        sendPhoneConfirmation; verify.go, smsVerify; models/user.go, ConfirmPhoneChange.
        """
        self._refuse_taken("phone", phone)
        with self.request():
            sent = {"phone_change": phone, "phone_change_sent_at": now()}
            self._send_token(user_id, "phone_change_token", phone, **sent)
        changed = {"phone": phone, "phone_change": "", "phone_change_token": ""}
        with self.request():
            self._verify_own(user_id, "phone", phone)
            with answering("Error confirming user"):
                self._update(user_id, **changed, phone_confirmed_at=now())
                self._clear_tokens(user_id)
            if self.user(user_id)["is_anonymous"]:
                self._update(user_id, is_anonymous=False)
            self._merge_providers(user_id)
            self._grant(user_id)
        return user_id

    def make_permanent(self, user_id: UUID, email: str) -> UUID:
        """Give an anonymous user an address: ``is_anonymous`` becomes false first, then ``email`` is set.

        The id stays, and so do ``role`` and ``aud``. Source: verify.go:448-452, 613-624.
        """
        if not self.user(user_id)["is_anonymous"]:
            raise GoTrueError(422, "validation_failed", "User is not anonymous")
        return self.change_email(user_id, email)

    def link_identity(self, user_id: UUID, provider: str = "github", *, email: str | None = None) -> UUID:
        """Link another provider to a user who has an address: 1 UPDATE (the list of providers).

        Source: identity.go:173-217.
        """
        identity = {"sub": secrets.token_hex(10), "email": email or self.user(user_id)["email"]}
        with self.request():
            self._identify(user_id, provider, {**identity, "email_verified": True})
            self._merge_providers(user_id)
        return user_id

    def unlink_identity(self, user_id: UUID, provider: str) -> UUID:
        """Remove an identity. For ``phone`` 3 UPDATEs, the first of which nulls ``phone``.

        For others 1 to 3: where no identity left has the user's address, the first one's address is promoted,
        and an empty one is un-confirmed. Source: identity.go:70-77; models/user.go:276-355.
        """
        identities = self._identities(user_id)
        gone = [identity for identity in identities if identity["provider"] == provider]
        left = [identity for identity in identities if identity["provider"] != provider]
        if not gone:
            raise GoTrueError(422, "identity_not_found", "Identity doesn't exist")
        if not left:
            message = "User must have at least 1 identity after unlinking"
            raise GoTrueError(422, "single_identity_not_deletable", message)
        with self.request():
            with answering("Database error deleting identity"):
                self.connection.execute("delete from auth.identities where id = %s", (gone[0]["id"],))
            if provider == "phone":
                self._forget_phone(user_id)
            else:
                self._promote_email(user_id, left)
            with answering("Database error updating user providers"):
                self._merge_providers(user_id)
        return user_id

    def _forget_phone(self, user_id: UUID) -> None:
        with answering("Database error updating user phone"):
            self._update(user_id, phone=None)
            self._update(user_id, phone_confirmed_at=None)

    def _promote_email(self, user_id: UUID, left: list[dict[str, Any]]) -> None:
        addresses = [identity["email"] for identity in left]
        if self.user(user_id)["email"] in addresses:
            return
        free = [address for address in addresses if not self._registered("email", address)]
        if not free:
            message = "Unable to unlink identity due to email conflict"
            raise GoTrueError(422, "email_conflict_identity_not_deletable", message)
        with answering("Database error updating user email"):
            self._update(user_id, email=free[0])
            if free[0] is None:
                self._update(user_id, email_confirmed_at=None)
