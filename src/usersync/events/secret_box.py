"""Encrypts the secrets of webhooks, which it also generates, and the logins of streams.

``USERSYNC_SECRET_KEY`` has the key, or several separated by commas: the first encrypts, all decrypt. The
database does not have the key, so a reader of the database cannot sign.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from usersync.config.environment import look_up
from usersync.config.extras import needed
from usersync.errors import SettingsError

with needed("webhooks", "a webhook"):
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY_VARIABLE = "USERSYNC_SECRET_KEY"

_PREFIX = "whsec_"
_BYTES = 32  # Standard Webhooks: 24 to 64


@dataclass(frozen=True)
class Secret:
    """A secret with which requests are signed. Its ``repr`` does not contain it."""

    text: str = field(repr=False)

    def __str__(self) -> str:
        return f"{_PREFIX}…"


def new_secret() -> Secret:
    """A random secret, in the form of Standard Webhooks."""
    return Secret(_PREFIX + b64encode(secrets.token_bytes(_BYTES)).decode())


class SecretBox:
    """Encrypts and decrypts secrets. Its ``repr`` and its errors contain neither keys nor secrets."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._fernet = MultiFernet([_fernet(each) for each in keys])

    @classmethod
    def from_environment(cls) -> SecretBox:
        """With the keys of ``USERSYNC_SECRET_KEY``. Raises ``SettingsError`` if there is none."""
        found = look_up(KEY_VARIABLE)
        keys = [each for part in (found.value if found else "").split(",") if (each := part.strip())]
        if not keys:
            raise SettingsError(
                f"{KEY_VARIABLE} is not set: it has the key for secrets of webhooks and logins of streams",
                hint=_NEW_KEY,
            )
        return cls(keys)

    def encrypt(self, secret: Secret) -> str:
        """The secret as it is stored, with the first key."""
        return self._fernet.encrypt(secret.text.encode()).decode()

    def encrypt_again(self, stored: str) -> str:
        """A stored secret, encrypted with the first key. Raises ``SettingsError`` if no key fits."""
        return self.encrypt(self.decrypt(stored))

    def decrypt(self, stored: str) -> Secret:
        """A secret that was stored. Raises ``SettingsError`` if no key fits."""
        try:
            return Secret(self._fernet.decrypt(stored.encode()).decode())
        except (InvalidToken, ValueError):
            raise SettingsError(
                f"no key in {KEY_VARIABLE} decrypts the secret of the subscription",
                hint="Append the key that encrypted the secret, after a comma. If this key is lost: for a "
                "webhook, run usersync subscriptions rotate-secret; for a stream, remove and add it again.",
            ) from None


_NEW_KEY = (
    "Use the key of the workers. If there is none yet, make one, and keep it where the other secrets of the "
    "application are: openssl rand -base64 32 | tr '+/' '-_'"
)


def _fernet(key: str) -> Fernet:
    try:
        return Fernet(key)
    except ValueError:
        # The message of Fernet does not contain the key, but does not name the variable either.
        raise SettingsError(
            f"{KEY_VARIABLE} has a value that is not a key: expected 32 bytes in URL-safe base64",
            hint=_NEW_KEY,
        ) from None
