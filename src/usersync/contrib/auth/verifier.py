"""Checks access tokens: once blocking, once for asyncio. What they share is a generator of waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import jwt

from usersync.contrib.auth.inputs import checked_secret, checked_url, variable
from usersync.contrib.auth.keys import ALGORITHMS, WAIT_S, KeySet
from usersync.contrib.auth.user import VerifiedUser
from usersync.contrib.background import drive, drive_async
from usersync.errors import InvalidTokenError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection, Generator
    from concurrent.futures import Future
    from pathlib import Path

#: A header line of a usual web server has 8 KiB. GoTrue's tokens are far below, unless a hook fills them.
MAX_BYTES = 16 << 10

_SHARED = "HS256"

_REQUIRED = ["exp", "iss", "aud", "sub", "role"]

_REASONS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet, or a clock is wrong",
    jwt.InvalidSignatureError: "its signature is not that of its key",
    jwt.InvalidAlgorithmError: "its algorithm is not that of its key",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.InvalidIssuerError: "it is from another issuer",
}


class _Verifier:
    """What is common to both verifiers.

    ``url`` is the project's (``SUPABASE_URL``). ``secret`` is the shared secret of a project that signs with
    one, or did so of late; without it HS256 is refused. ``issuer`` and ``jwks_url`` follow from ``url``, and
    are given where the auth server goes by another address in its tokens, or has its keys elsewhere.
    ``roles`` are the database roles that may ask, ``leeway`` the seconds by which clocks may differ. The keys
    are fetched over ``http://`` from this machine, from a private network with a warning, and from elsewhere
    only with ``insecure_http``.

    Raises ``SettingsError`` for what cannot be.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        secret: str | None = None,
        issuer: str | None = None,
        jwks_url: str | None = None,
        audience: str = "authenticated",
        roles: Collection[str] = ("authenticated",),
        leeway: float = 10.0,
        insecure_http: bool = False,
    ) -> None:
        if url is None and (issuer is None or jwks_url is None):
            raise SettingsError(
                "the token check needs the project's url, or both its issuer and its jwks_url"
            )
        if isinstance(roles, str):
            raise SettingsError(f"roles: expected a list, got {roles!r}", hint=f"Write [{roles!r}].")
        base = ""
        if url is not None:
            # Only what the keys are fetched from must be encrypted.
            fetched = jwks_url is None
            base = f"{checked_url(url, 'url', insecure_http=insecure_http or not fetched)}/auth/v1"
        self._issuer = issuer or base
        self._secret = checked_secret(secret) if secret is not None else None
        self._audience = audience
        self._roles = frozenset(roles)
        self._leeway = leeway
        keys_at = f"{base}/.well-known/jwks.json"
        if jwks_url is not None:
            keys_at = checked_url(jwks_url, "jwks_url", insecure_http=insecure_http)
        self._keys = KeySet(keys_at)

    @classmethod
    def from_env(cls, *, directory: Path | None = None, **options: Any) -> Self:
        """Make one for ``SUPABASE_URL``, and ``SUPABASE_JWT_SECRET`` if it is set.

        Both are looked for in the environment, ``.env.local`` and ``.env``; ``options`` are those of the
        class, and go before.
        """
        found = {
            "url": variable("SUPABASE_URL", directory),
            "secret": variable("SUPABASE_JWT_SECRET", directory),
        }
        given = {**found, **options}
        if not given["url"] and not ("issuer" in options and "jwks_url" in options):
            raise SettingsError(
                "no SUPABASE_URL: neither in the environment, nor in .env.local or .env",
                hint="The token check needs the project's address, https://<project-ref>.supabase.co.",
            )
        return cls(**given)

    def _steps(self, token: str) -> Generator[Future[None], None, VerifiedUser]:
        algorithm, key_id = _read_header(token)
        if algorithm == _SHARED:
            claims = self._claims(token, self._shared_secret(), _SHARED)
        elif algorithm in ALGORITHMS and key_id is not None:
            key = yield from self._keys.find(key_id)
            claims = self._claims(token, key, key.algorithm_name)
        else:
            raise _refused("it is not signed in a way that is accepted")
        return self._user(claims)

    def _shared_secret(self) -> str:
        if self._secret is None:
            raise InvalidTokenError(
                "the token is refused: it is signed with a shared secret, and none is set here",
                hint="If the project still signs with its JWT secret, set SUPABASE_JWT_SECRET.",
            )
        return self._secret

    def _claims(self, token: str, key: jwt.PyJWK | str, algorithm: str) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": _REQUIRED},
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not a token that was accepted
            reason, issuer = _reason(error), isinstance(error, jwt.InvalidIssuerError)
        # Raised out here, so that nothing leads from our error to PyJWT's, which may quote from the token.
        raise _refused(reason, f"Accepted is {self._issuer}; pass issuer= for another." if issuer else None)

    def _user(self, claims: dict[str, Any]) -> VerifiedUser:
        if _name(claims["role"]) not in self._roles:
            raise _refused("its role is not one that is accepted here")
        try:
            return VerifiedUser.from_claims(claims)
        except (ValueError, TypeError, AttributeError, OverflowError, OSError):
            pass
        raise _refused("it names no user")


class TokenVerifier(_Verifier):
    __doc__ = f"""Checks access tokens, from threads. {_Verifier.__doc__}"""

    def verify(self, token: str) -> VerifiedUser:
        """Check a token and return whose it is. Blocks while keys are fetched, for six seconds at the most.

        Raises ``InvalidTokenError`` for a token that is not accepted, and
        ``KeysUnavailableError`` if that cannot be known. Neither contains the token.
        """
        return drive(self._steps(token), WAIT_S)


class AsyncTokenVerifier(_Verifier):
    __doc__ = f"""Checks access tokens, from asyncio. {_Verifier.__doc__}"""

    async def verify(self, token: str) -> VerifiedUser:
        """Check a token and return whose it is; see ``TokenVerifier.verify()``. Never blocks the loop."""
        return await drive_async(self._steps(token), WAIT_S)


def bearer_token(authorization: str | None) -> str | None:
    """The token of an ``Authorization: Bearer …`` header; None if it is none, or of another scheme."""
    scheme, _, token = (authorization or "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _read_header(token: object) -> tuple[str | None, str | None]:
    """The algorithm and the key's id, as somebody claims them."""
    if not isinstance(token, str) or not token:
        raise _refused("there is none")
    if len(token) > MAX_BYTES:
        raise _refused(f"it is larger than {MAX_BYTES >> 10} KiB")
    try:
        header = jwt.get_unverified_header(token)
    except Exception:  # noqa: BLE001 - anybody may send anything
        header = None
    # `crit` names what a reader has to understand; PyJWT understands more than an auth server has use for.
    if header is None or "crit" in header:
        raise _refused("it is not a JSON Web Token of an auth server's")
    # Numbers and lists are no names.
    return _name(header.get("alg")), _name(header.get("kid"))


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _reason(error: Exception) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"it lacks the claim {error.claim}"
    return _REASONS.get(type(error), "it cannot be read")


def _refused(reason: str, hint: str | None = None) -> InvalidTokenError:
    return InvalidTokenError(f"the token is refused: {reason}", hint=hint)
