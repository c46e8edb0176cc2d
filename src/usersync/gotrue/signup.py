"""Sign-ups: the INSERT of each flow, and the UPDATEs that follow it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from usersync.gotrue.creation import PASSWORD_HASH, Creation, app_metadata
from usersync.gotrue.errors import GoTrueError, answering
from usersync.gotrue.identities import identity_claims
from usersync.gotrue.session import fresh_email, fresh_phone, now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta


class SignUps(Creation):
    """Sign-up, invitation, and creation by an administrator."""

    def sign_up_email(
        self,
        email: str | None = None,
        *,
        data: Mapping[str, Any] | None = None,
        autoconfirm: bool = True,
        user_id: UUID | None = None,
    ) -> UUID:
        """Sign up by e-mail and password.

        INSERT and 5 UPDATEs (role; user metadata; app metadata; confirmation; ``email_verified``), then
        1 UPDATE in a second transaction (last_sign_in_at). Without ``autoconfirm``, INSERT and 4 UPDATEs, the
        last of them the confirmation token, and no sign-in. Source: signup.go:191-232, 306-324, 380-391;
        models/user.go:524-535, 1020-1047.

        If the address is registered and confirmed, this raises 422 ``user_already_exists`` with
        ``autoconfirm``. Otherwise it returns the id of a user who does not exist, as the server does, to hide
        that the address is registered. A user who is not confirmed is confirmed, or gets a new token.
        """
        return self._by(
            "email", (email or fresh_email()).lower(), data or {}, user_id, autoconfirm=autoconfirm
        )

    def sign_up_phone(
        self,
        phone: str | None = None,
        *,
        data: Mapping[str, Any] | None = None,
        autoconfirm: bool = True,
        user_id: UUID | None = None,
    ) -> UUID:
        """Sign up by phone: as by e-mail, but confirming is one UPDATE, so INSERT and 4, then 1.

        ``phone`` is digits without a plus sign, as GoTrue stores it. Source: signup.go:236-258;
        models/user.go, ConfirmPhone.
        """
        return self._by("phone", phone or fresh_phone(), data or {}, user_id, autoconfirm=autoconfirm)

    def _by(
        self, kind: str, contact: str, data: Mapping[str, Any], user_id: UUID | None, *, autoconfirm: bool
    ) -> UUID:
        known = self._registered(kind, contact)
        if known and known[f"{kind}_confirmed_at"]:
            return self._refuse(autoconfirm=autoconfirm)
        with self.request():
            uid: UUID = known["id"] if known else self._sign_up(kind, contact, data, user_id)
            if not autoconfirm:
                self._send_token(uid, "confirmation_token", contact, confirmation_sent_at=now())
                return uid
            with answering("Database error updating user"):
                (self._confirm_email if kind == "email" else self._confirm_phone)(uid)
        with self.request():
            self._grant(uid)
        return uid

    def sign_up_oauth(
        self,
        provider: str = "google",
        email: str | None = None,
        *,
        name: str | None = "Ada Lovelace",
        claims: Mapping[str, Any] | None = None,
        shares_email: bool = True,
        user_id: UUID | None = None,
    ) -> UUID:
        """Sign up through an identity provider, with a verified address and, unless None, a name.

        One transaction: INSERT and 7 UPDATEs (role; password; user metadata; app metadata; confirmation;
        ``email_verified``; last_sign_in_at). With ``shares_email=False``, as X and Discord can be, the user
        has no address and nothing to confirm: INSERT and 2. Source: external.go:344-432, signup.go:380-391.
        """
        names = {"name": name, "full_name": name} if name else {}
        address = (email or fresh_email()).lower() if shares_email else None
        return self._external(provider, {"email": address}, {**names, **(claims or {})}, user_id)

    def sign_up_sso(
        self,
        email: str | None = None,
        *,
        sso_provider: UUID | None = None,
        claims: Mapping[str, Any] | None = None,
        user_id: UUID | None = None,
    ) -> UUID:
        """Sign up through SAML: the same statements, ``is_sso_user``, and an address others may have too.

        Source: external.go:354-364; migration 20221215195500.
        """
        columns = {"email": (email or fresh_email()).lower(), "is_sso_user": True}
        return self._external(f"sso:{sso_provider or uuid4()}", columns, claims or {}, user_id)

    def sign_up_web3(self, chain: str = "ethereum", *, user_id: UUID | None = None) -> UUID:
        """Sign up by the signature of a wallet: INSERT and 2 UPDATEs (role; last_sign_in_at).

        The user is permanent, and has neither e-mail nor phone. Source: web3.go.
        """
        address = f"0x{secrets.token_hex(20)}"
        claims = {"chain": chain, "address": address, "network": "1", "domain": "example.com"}
        claims |= {"statement": "I accept the terms of service"}
        identity = {"sub": f"web3:{chain}:{address}", "email_verified": False, "phone_verified": False}
        identity |= {"custom_claims": claims}
        with self.request():
            uid = self._create({**app_metadata("web3"), "raw_user_meta_data": identity}, user_id)
            self._identify(uid, "web3", identity)
            self._grant(uid)
        return uid

    def sign_up_anonymous(
        self,
        *,
        data: Mapping[str, Any] | None = None,
        created_at: datetime | None = None,
        user_id: UUID | None = None,
    ) -> UUID:
        """Sign up without any credentials: INSERT and 2 UPDATEs (role; last_sign_in_at), no identity.

        Source: anonymous.go:29-55, signup.go:81-104.
        """
        message = "Database error creating anonymous user"
        columns = {"is_anonymous": True, "raw_user_meta_data": dict(data or {})}
        try:
            with self.request(message):
                uid = self._create(columns, user_id, created_at)
                self._grant(uid)
        except GoTrueError as error:
            # The flow says this of whatever happened below it, and those words are lost.
            raise GoTrueError(500, "unexpected_failure", message) from error.__cause__
        return uid

    def sign_up_again(self, email: str, **options: Any) -> UUID:
        """Sign up with the address of a user who was deleted; it is a new user with a new id.

        A soft-deleted user's address has been overwritten by then, so nothing stands in the way.
        """
        return self.sign_up_email(email, **options)

    def invite(
        self, email: str | None = None, *, data: Mapping[str, Any] | None = None, user_id: UUID | None = None
    ) -> UUID:
        """Invite by e-mail: INSERT and 2 UPDATEs (role; token, confirmation_sent_at and invited_at).

        Source: invite.go:44-90; mail.go, sendInvite.
        """
        address, at = (email or fresh_email()).lower(), now()
        with self.request():
            metadata = {**app_metadata("email"), "raw_user_meta_data": dict(data or {})}
            uid = self._create({"email": address, **metadata}, user_id)
            self._identify(uid, "email", identity_claims(uid, email=address))
            self._send_token(uid, "confirmation_token", address, confirmation_sent_at=at, invited_at=at)
        return uid

    def admin_create(
        self,
        email: str | None = None,
        *,
        phone: str | None = None,
        role: str = "authenticated",
        user_metadata: Mapping[str, Any] | None = None,
        app_metadata: Mapping[str, Any] | None = None,
        confirm: bool = True,
        ban: timedelta | None = None,
        user_id: UUID | None = None,
    ) -> UUID:
        """Create a user as the dashboard and the admin API do: one transaction, no hook, no sign-in.

        INSERT, then an UPDATE each for the role, ``app_metadata`` if given, the confirmation (2 for an
        e-mail, 1 for a phone) and the ban. With neither e-mail nor phone an address is made up.
        Source: admin.go:491-569.
        """
        address = email.lower() if email else None if phone else fresh_email()
        with self.request("Database error creating new user"):
            uid = self._admin_insert(address, phone, user_metadata or {}, user_id)
            self._update(uid, role=role)
            if app_metadata is not None:
                self._merge(uid, "raw_app_meta_data", app_metadata)
            if confirm and address:
                self._confirm_email(uid)
            if confirm and phone:
                self._confirm_phone(uid)
            if ban is not None:
                self._update(uid, banned_until=now() + ban)
        return uid

    def _admin_insert(
        self, email: str | None, phone: str | None, data: Mapping[str, Any], user_id: UUID | None
    ) -> UUID:
        contacts = {name: value for name, value in {"email": email, "phone": phone}.items() if value}
        columns = {**contacts, "encrypted_password": PASSWORD_HASH, "raw_user_meta_data": dict(data)}
        for name, value in contacts.items():
            self._refuse_taken(name, value)
        uid = self._insert_user({**columns, **app_metadata(*contacts)}, user_id)
        for name, value in contacts.items():
            self._identify(uid, name, identity_claims(uid, **{name: value}))
        return uid
