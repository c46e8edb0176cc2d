"""Changes of a user's e-mail address, phone and identities, some of them over several requests."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from usersync.gotrue.errors import GoTrueError, answering
from usersync.gotrue.identities import Identities
from usersync.gotrue.session import DUPLICATE, TOKENS, fresh_email, now

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

    def change_phone(self, user_id: UUID, phone: str, *, autoconfirm: bool = False) -> UUID:
        """Change the phone and enter the code: UPDATE of ``phone_change``; in a second request, of ``phone``.

        With ``autoconfirm`` one request with 1 UPDATE, and no new session. An anonymous user becomes
        permanent by either, after ``phone`` is set, by 1 UPDATE more. Source: user.go, UserUpdate; phone.go,
        sendPhoneConfirmation; verify.go, smsVerify; models/user.go, ConfirmPhoneChange.
        """
        self._refuse_taken("phone", phone)
        if not autoconfirm:
            with self.request():
                sent = {"phone_change": phone, "phone_change_sent_at": now()}
                self._send_token(user_id, "phone_change_token", phone, **sent)
        with self.request():
            self._finish_phone_change(user_id, phone)
            if not autoconfirm:
                self._merge_providers(user_id)
                self._grant(user_id)
        return user_id

    def _finish_phone_change(self, user_id: UUID, phone: str) -> None:
        self._verify_own(user_id, "phone", phone)
        changed = {"phone": phone, "phone_change": "", "phone_change_token": ""}
        with answering("Error confirming user"):
            self._update(user_id, **changed, phone_confirmed_at=now())
            self._clear_tokens(user_id)
        if self.user(user_id)["is_anonymous"]:
            self._update(user_id, is_anonymous=False)

    def make_permanent(self, user_id: UUID, email: str, *, autoconfirm: bool = False) -> UUID:
        """Give an anonymous user an address: ``is_anonymous`` becomes false first, then ``email`` is set.

        With ``autoconfirm`` one request with 4 UPDATEs (the others: the confirmation; ``email_verified``),
        and no new session. The id stays, and so do ``role`` and ``aud``. Source: user.go, UserUpdate;
        verify.go:448-452, 613-624.
        """
        user = self.user(user_id)
        if not user["is_anonymous"]:
            raise GoTrueError(422, "validation_failed", "User is not anonymous")
        if not autoconfirm:
            return self.change_email(user_id, email)
        self._refuse_taken("email", email.lower())
        with self.request():
            self._finish_email_change({**user, "email_change": email.lower()})
        return user_id

    def link_identity(self, user_id: UUID, provider: str = "github", *, email: str | None = None) -> UUID:
        """Link another provider: 1 UPDATE (the list of providers) for a user who has an address.

        A user without one, anonymous or not, is given the provider's first: 5 UPDATEs (e-mail; pending
        tokens; confirmation; ``email_verified``; the list of providers), and one more, before the last, for
        an anonymous user, who becomes permanent. The session that follows is a request of its own (PKCE).
        Source: identity.go:173-217; models/user.go, UpdateUserEmailFromIdentities.
        """
        user = self.user(user_id)
        identity = {"sub": secrets.token_hex(10), "email": (email or user["email"] or fresh_email()).lower()}
        with self.request():
            self._identify(user_id, provider, {**identity, "email_verified": True})
            if not user["email"]:
                self._adopt_email(user, identity["email"])
            self._merge_providers(user_id)
        return user_id

    def _adopt_email(self, user: Mapping[str, Any], email: str) -> None:
        if self._registered("email", email):
            raise GoTrueError(400, "email_exists", DUPLICATE["email"])
        self._update(user["id"], email=email)
        self._clear_pending(user["id"])
        self._confirm_email(user["id"])
        if user["is_anonymous"]:
            self._update(user["id"], is_anonymous=False)

    def _clear_pending(self, user_id: UUID) -> None:
        """Forget tokens and changes that wait for a confirmation, 1 UPDATE (ClearAllPendingTokens)."""
        sent = ("confirmation", "recovery", "email_change", "phone_change", "reauthentication")
        changes = {"email_change": "", "phone_change": "", "email_change_confirm_status": 0}
        self._update(
            user_id,
            **dict.fromkeys(TOKENS, ""),
            **changes,
            **{f"{name}_sent_at": None for name in sent},
        )
        self._clear_tokens(user_id)

    def unlink_identity(self, user_id: UUID, provider: str) -> UUID:
        """Remove an identity. For ``phone`` 3 UPDATEs, the first of which nulls ``phone``.

        For others 1 to 5: where no identity left has the user's address, a verified one's address is promoted
        before others', pending tokens are cleared, and an address that is not verified, or empty, is
        un-confirmed (2 UPDATEs). Source: identity.go:70-77; models/user.go:276-355.
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
        if self.user(user_id)["email"] in [identity["email"] for identity in left]:
            return
        # Python's sort keeps the order of creation among equals, as the server's does.
        free = [each for each in sorted(left, key=_rank) if not self._registered("email", each["email"])]
        if not free:
            message = "Unable to unlink identity due to email conflict"
            raise GoTrueError(422, "email_conflict_identity_not_deletable", message)
        with answering("Database error updating user email"):
            self._update(user_id, email=free[0]["email"])
            self._clear_pending(user_id)
            if _rank(free[0]):
                self._update(user_id, email_confirmed_at=None)
                self._merge(user_id, "raw_user_meta_data", {"email_verified": False})


def _rank(identity: Mapping[str, Any]) -> int:
    """Which identity's address comes first: 0 for a verified one, 2 for none (identityRank)."""
    if not identity["email"]:
        return 2
    return 0 if identity["identity_data"].get("email_verified") else 1
