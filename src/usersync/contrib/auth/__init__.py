"""Verifies the access tokens that Supabase's auth server issues. Needs ``usersync[auth]``.

::

    verifier = TokenVerifier.from_env()      # SUPABASE_URL, and SUPABASE_JWT_SECRET if there is one
    user = verifier.verify(token)            # VerifiedUser, or InvalidTokenError

``keys.py`` has the auth server's public keys, ``user.py`` the user of a token, ``verifier.py`` the rules.
"""

from usersync.config.extras import needed
from usersync.contrib.auth.user import VerifiedUser
from usersync.errors import InvalidTokenError, KeysUnavailableError

with needed("auth", "usersync.contrib.auth"):
    from usersync.contrib.auth.verifier import AsyncTokenVerifier, TokenVerifier, bearer_token

__all__ = [
    "AsyncTokenVerifier",
    "InvalidTokenError",
    "KeysUnavailableError",
    "TokenVerifier",
    "VerifiedUser",
    "bearer_token",
]
