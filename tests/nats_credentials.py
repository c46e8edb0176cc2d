"""Credentials of NATS: an operator, an account and a user, each with a signed token."""

from __future__ import annotations

import base64
import json
import secrets
import time
from typing import TYPE_CHECKING, Any

import nkeys

if TYPE_CHECKING:
    from pathlib import Path

_OPERATOR, _ACCOUNT, _USER = (
    nkeys.PREFIX_BYTE_OPERATOR,
    nkeys.PREFIX_BYTE_ACCOUNT,
    nkeys.PREFIX_BYTE_USER,
)
_UNLIMITED = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)


class Key:
    """A random key pair."""

    def __init__(self, prefix: int) -> None:
        self.seed = nkeys.encode_seed(secrets.token_bytes(32), prefix)
        self._pair = nkeys.from_seed(bytearray(self.seed))
        self.public = self._pair.public_key.decode()

    def token(self, name: str, subject: Key, claims: dict[str, Any]) -> str:
        """A token about ``subject`` that this key has signed."""
        body = {
            "jti": secrets.token_hex(16),
            "iat": int(time.time()),
            "iss": self.public,
            "name": name,
            "sub": subject.public,
            "nats": {"version": 2, **claims},
        }
        signed = ".".join(map(_part, ({"typ": "JWT", "alg": "ed25519-nkey"}, body)))
        return f"{signed}.{_base64(self._pair.sign(signed.encode()))}"


def _part(value: dict[str, Any]) -> str:
    return _base64(json.dumps(value).encode())


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def with_credentials(path: Path) -> str:
    """Write the credentials of a user. Returns the configuration of a server that accepts them."""
    operator, account, system, user = Key(_OPERATOR), Key(_ACCOUNT), Key(_ACCOUNT), Key(_USER)
    trusted = operator.token("operator", operator, {"type": "operator"})
    claims = {"type": "account", "limits": {**_UNLIMITED, "wildcards": True}}
    accounts = (("account", account), ("system", system))
    known = "\n".join(f"{each.public}: {operator.token(name, each, claims)}" for name, each in accounts)
    token = account.token("user", user, {"type": "user", "subs": -1, "data": -1, "payload": -1})
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{user.seed.decode()}\n------END USER NKEY SEED------\n"
    )
    return (
        f"operator: {trusted}\nsystem_account: {system.public}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {known} }}\n"
    )
