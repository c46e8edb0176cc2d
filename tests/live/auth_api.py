"""A client of the auth server's HTTP API for applications and administrators."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

#: Error codes of a server that does not offer a flow. The test is then skipped.
NOT_OFFERED = {
    "anonymous_provider_disabled",
    "email_address_invalid",
    "email_address_not_authorized",
    "email_provider_disabled",
    "over_email_send_rate_limit",
    "over_request_rate_limit",
    "phone_provider_disabled",
    "signup_disabled",
    "sms_send_failed",
}


class NotOfferedError(Exception):
    """The settings of the server do not allow this."""


@dataclass
class AuthApi:
    """``url`` is the auth server's base URL. Keeps the ids of the created users for the cleanup."""

    url: str
    admin_key: str
    public_key: str
    domain: str

    def __post_init__(self) -> None:
        self._http = httpx.Client(base_url=self.url, timeout=30)
        self.made: list[UUID] = []

    def close(self) -> None:
        self._http.close()

    def settings(self) -> dict[str, Any]:
        return self._ask("GET", "/settings", self._public())

    def sign_up(self, **fields: Any) -> dict[str, Any]:
        """The session, or the user if the e-mail has to be confirmed first; ``{}`` is anonymous."""
        return self._made(self._ask("POST", "/signup", self._public(), fields))

    def sign_in(self, **fields: Any) -> dict[str, Any]:
        return self._ask("POST", "/token?grant_type=password", self._public(), fields)

    def refresh(self, token: str) -> dict[str, Any]:
        return self._ask("POST", "/token?grant_type=refresh_token", self._public(), {"refresh_token": token})

    def create(self, **fields: Any) -> dict[str, Any]:
        """Create a confirmed user, as the dashboard does."""
        return self._made(self._ask("POST", "/admin/users", self._admin(), fields))

    def generate_link(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Create the user of the link without sending an e-mail."""
        return self._made(self._ask("POST", "/admin/generate_link", self._admin(), {"type": kind, **fields}))

    def update(self, user_id: UUID, **fields: Any) -> dict[str, Any]:
        return self._ask("PUT", f"/admin/users/{user_id}", self._admin(), fields)

    def delete(self, user_id: UUID, *, soft: bool = False) -> None:
        self._ask("DELETE", f"/admin/users/{user_id}", self._admin(), {"should_soft_delete": soft})

    def address(self) -> str:
        return f"usersync-live-{secrets.token_hex(6)}@{self.domain}"

    def number(self) -> str:
        # 555-01xx is reserved for fiction; the other digits differ for each run.
        return f"1555{secrets.randbelow(10**7):07}"

    def _made(self, answer: dict[str, Any]) -> dict[str, Any]:
        user = answer.get("user") or answer
        self.made.append(UUID(user["id"]))
        return {**answer, "user": user}

    def _public(self) -> dict[str, str]:
        return _headers(self.public_key)

    def _admin(self) -> dict[str, str]:
        return _headers(self.admin_key)

    def _ask(
        self, method: str, path: str, headers: dict[str, str], body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        answer = self._http.request(method, path, headers=headers, json=body)
        data = answer.json() if answer.content else {}
        if answer.is_error:
            code = data.get("error_code") or data.get("code")
            said = f"{method} {path}: {answer.status_code} {code} {data.get('msg')}"
            raise NotOfferedError(said) if code in NOT_OFFERED else AssertionError(said)
        return data


def _headers(key: str) -> dict[str, str]:
    # Keys that begin with sb_ are not tokens. They are sent in the header apikey only.
    return {"apikey": key} if key.startswith("sb_") else {"apikey": key, "Authorization": f"Bearer {key}"}
