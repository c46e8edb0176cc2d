"""The INSERT into auth.users as GoTrue sends it, and what every kind of sign-up has in common."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from usersync.gotrue.errors import GoTrueError, answering
from usersync.gotrue.identities import Identities, identity_claims
from usersync.gotrue.session import now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

# A bcrypt hash of nothing in particular: hashing for real takes 60 ms a user and proves nothing here.
PASSWORD_HASH = "$2a$10$" + "x" * 53

# GoTrue's INSERT names every column of its model: an absent text is '', an absent time NULL, and an absent
# e-mail or phone NULL as well (storage/helper.go:22-27). The nil instance makes the admin API see the row.
NEW_USER: Mapping[str, Any] = {
    "instance_id": UUID(int=0),
    "aud": "authenticated",
    "role": "",
    "email": None,
    "encrypted_password": "",
    "email_confirmed_at": None,
    "invited_at": None,
    "confirmation_token": "",
    "confirmation_sent_at": None,
    "recovery_token": "",
    "recovery_sent_at": None,
    "email_change_token_new": "",
    "email_change": "",
    "email_change_sent_at": None,
    "last_sign_in_at": None,
    "raw_app_meta_data": {},
    "raw_user_meta_data": {},
    "is_super_admin": False,
    "phone": None,
    "phone_confirmed_at": None,
    "phone_change": "",
    "phone_change_token": "",
    "phone_change_sent_at": None,
    "email_change_token_current": "",
    "email_change_confirm_status": 0,
    "banned_until": None,
    "reauthentication_token": "",
    "reauthentication_sent_at": None,
    "is_sso_user": False,
    "deleted_at": None,
    "is_anonymous": False,
}


class Creation(Identities):
    """The steps that sign-ups are put together from."""

    def _insert_user(
        self, columns: Mapping[str, Any], user_id: UUID | None, created_at: datetime | None = None
    ) -> UUID:
        uid, at = user_id or uuid4(), created_at or now()
        self._insert("users", {"id": uid, **NEW_USER, **columns, "created_at": at, "updated_at": at})
        return uid

    def _create(
        self, columns: Mapping[str, Any], user_id: UUID | None, created_at: datetime | None = None
    ) -> UUID:
        """INSERT with an empty role, then UPDATE the role (signup.go, signupNewUser)."""
        with answering("Database error saving new user"):
            uid = self._insert_user(columns, user_id, created_at)
        with answering("Database error updating user"):
            self._update(uid, role="authenticated")
        return uid

    def _sign_up(self, kind: str, contact: str, data: Mapping[str, Any], user_id: UUID | None) -> UUID:
        """Sign up by ``kind``, e-mail or phone, as far as the unconfirmed user."""
        columns = {kind: contact, "encrypted_password": PASSWORD_HASH, "raw_user_meta_data": dict(data)}
        uid = self._create({**columns, **app_metadata(kind)}, user_id)
        identity = {**data, **identity_claims(uid, **({"email": contact} if kind == "email" else {}))}
        self._identify(uid, kind, identity)
        # RemoveUnconfirmedIdentities: merges the identity's data into the metadata, and adds its provider.
        self._merge(uid, "raw_user_meta_data", identity)
        self._merge_providers(uid)
        return uid

    def _external(
        self, provider: str, columns: Mapping[str, Any], claims: Mapping[str, Any], user_id: UUID | None
    ) -> UUID:
        """Sign up by an identity provider, in one transaction up to the session."""
        email = columns.get("email")
        identity = {"sub": secrets.token_hex(10), "email_verified": bool(email), "phone_verified": False}
        identity |= {"provider_id": identity["sub"], **({"email": email} if email else {}), **claims}
        with self.request():
            metadata = {**app_metadata(provider), "raw_user_meta_data": identity}
            uid = self._create({**columns, **metadata}, user_id)
            self._identify(uid, provider, identity)
            if email:
                with answering("Error updating user"):
                    self._update(uid, encrypted_password=None)
                    self._merge(uid, "raw_user_meta_data", identity)
                    self._merge_providers(uid)
                    self._confirm_email(uid)
            self._grant(uid)
        return uid

    def _refuse(self, *, autoconfirm: bool) -> UUID:
        """Answer a sign-up for a contact that is registered and confirmed."""
        if autoconfirm:
            raise GoTrueError(422, "user_already_exists", "User already registered")
        return uuid4()  # sanitizeUser: a random id, so that the answer does not show who is registered


def app_metadata(*providers: str) -> dict[str, Any]:
    return {"raw_app_meta_data": {"provider": providers[0], "providers": list(providers)}}
