"""A user's identities, of which auth.users repeats the list of providers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from usersync.gotrue.session import AuthSession, now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID


class Identities(AuthSession):
    """The rows of auth.identities, and what follows from them."""

    def _identify(self, user_id: UUID, provider: str, data: Mapping[str, Any]) -> None:
        """Insert the identity. It always comes after the user: no trigger on auth.users sees it."""
        at = now()
        identity = {"provider_id": data["sub"], "user_id": user_id, "identity_data": dict(data)}
        times = {"last_sign_in_at": at, "created_at": at, "updated_at": at}
        self._insert("identities", {**identity, "provider": provider, **times})

    def _set_identity_data(self, identity_id: UUID, data: Mapping[str, Any]) -> None:
        statement = "update auth.identities set identity_data = %s, updated_at = %s where id = %s"
        self.connection.execute(statement, (Jsonb(dict(data)), now(), identity_id))

    def _identities(self, user_id: UUID) -> list[dict[str, Any]]:
        return self._rows("select * from auth.identities where user_id = %s order by created_at, id", user_id)

    def _verify_own(self, user_id: UUID, provider: str, contact: str) -> None:
        """Note a verified e-mail or phone in the user's own identity, whose provider_id is the user's id."""
        verified = {provider: contact, f"{provider}_verified": True}
        for identity in self._identities(user_id):
            if identity["provider"] == provider and identity["provider_id"] == str(user_id):
                self._set_identity_data(identity["id"], {**identity["identity_data"], **verified})
                return
        self._identify(user_id, provider, {**identity_claims(user_id), **verified})

    def _merge_providers(self, user_id: UUID) -> None:
        statement = """
            select array_agg(provider order by first) as providers
            from (select provider, min(created_at) as first from auth.identities where user_id = %s
                  group by provider) as linked
        """
        row = self._row(statement, user_id)
        providers = (row and row["providers"]) or []
        first = {"provider": providers[0]} if providers else {}
        self._merge(user_id, "raw_app_meta_data", {"providers": providers, **first})


def identity_claims(user_id: UUID, **contacts: str | None) -> dict[str, Any]:
    """What GoTrue stores of a user's own e-mail or phone identity (structs.Map of provider.Claims)."""
    given = {key: value for key, value in contacts.items() if value}
    return {"sub": str(user_id), **given, "email_verified": False, "phone_verified": False}
