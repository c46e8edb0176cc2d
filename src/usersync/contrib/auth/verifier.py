"""Verifies access tokens, blocking and for asyncio. Both share a generator that yields what to wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import jwt

from usersync.contrib.auth.inputs import checked_secret, checked_url, variable
from usersync.contrib.auth.keys import ALGORITHMS, WAIT_S, KeySet
from usersync.contrib.auth.user import VerifiedUser
from usersync.contrib.background import drive, drive_async
from usersync.errors import ArgumentTypeError, InvalidTokenError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Collection, Generator
    from concurrent.futures import Future
    from pathlib import Path

#: Usual web servers accept a header line of 8 KiB. GoTrue's tokens are far below, unless a hook fills them.
MAX_BYTES = 16 << 10

_SHARED = "HS256"

_REQUIRED = ["exp", "iss", "aud", "sub", "role"]

_REASONS: dict[type[Exception], str] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet, or a clock is wrong",
    jwt.InvalidSignatureError: "its signature does not match its key",
    jwt.InvalidAlgorithmError: "its algorithm does not match its key",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.InvalidIssuerError: "it is from another issuer",
}


class _Verifier:
    """The common part of both verifiers."""

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
            raise ArgumentTypeError("the token check requires url, or both issuer and jwks_url")
        if isinstance(roles, str):
            raise ArgumentTypeError(f"roles: expected a list, got {roles!r}", hint=f"Write [{roles!r}].")
        base = ""
        if url is not None:
            # If the keys have another URL, nothing is fetched from this one, so http:// is allowed.
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
        """Create a verifier for ``SUPABASE_URL``, and ``SUPABASE_JWT_SECRET`` if it is set.

        Both are read from the environment, ``.env.local`` and ``.env``. ``options`` are those of the class,
        and take precedence.
        """
        found = {
            "url": variable("SUPABASE_URL", directory),
            "secret": variable("SUPABASE_JWT_SECRET", directory),
        }
        given = {**found, **options}
        if not given["url"] and not ("issuer" in options and "jwks_url" in options):
            raise SettingsError(
                "no SUPABASE_URL: neither in the environment, nor in .env.local or .env",
                hint="The token check needs the project's URL, https://<project-ref>.supabase.co.",
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
            raise _refused("its algorithm is not accepted")
        return self._user(claims)

    def _shared_secret(self) -> str:
        if self._secret is None:
            raise InvalidTokenError(
                "the token is refused: it is signed with a shared secret, and no secret is configured",
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
        except Exception as error:  # noqa: BLE001 - any error means that the token is not accepted
            reason, issuer = _reason(error), isinstance(error, jwt.InvalidIssuerError)
        # Raised outside the except block, so that no traceback shows PyJWT's error, which may quote the
        # token.
        raise _refused(
            reason, f"The accepted issuer is {self._issuer}. Pass issuer= for another." if issuer else None
        )

    def _user(self, claims: dict[str, Any]) -> VerifiedUser:
        if _name(claims["role"]) not in self._roles:
            raise _refused("its role is not accepted")
        try:
            return VerifiedUser.from_claims(claims)
        except (ValueError, TypeError, AttributeError, OverflowError, OSError):
            pass
        raise _refused("it names no user")


class TokenVerifier(_Verifier):
    """Checks access tokens, from threads.

    ``url`` is the project's URL (``SUPABASE_URL``). ``secret`` is the shared secret of a project that signs
    with one, or did recently; without it HS256 is refused. ``issuer`` and ``jwks_url`` follow from ``url``.
    Pass them if the tokens of the auth server name another issuer, or its keys have another URL. ``roles``
    are the database roles whose tokens are accepted, ``leeway`` the seconds by which clocks may differ.
    Fetching the keys over ``http://`` is allowed from this machine, from a private network with a warning,
    and from other hosts only with ``insecure_http``.

    Raises ``SettingsError`` for invalid arguments.
    """

    def verify(self, token: str) -> VerifiedUser:
        """Verify a token and return its user. Blocks at most six seconds while keys are fetched.

        Raises ``InvalidTokenError`` for a token that is not accepted, and ``KeysUnavailableError`` if the
        keys cannot be fetched. Neither contains the token.
        """
        return drive(self._steps(token), WAIT_S)


class AsyncTokenVerifier(_Verifier):
    """Checks access tokens, from asyncio. The arguments are those of ``TokenVerifier``."""

    async def verify(self, token: str) -> VerifiedUser:
        """Verify a token and return its user; see ``TokenVerifier.verify()``. Never blocks the loop."""
        return await drive_async(self._steps(token), WAIT_S)


def bearer_token(authorization: str | None) -> str | None:
    """The token of an ``Authorization: Bearer …`` header; None without one, or with another scheme."""
    scheme, _, token = (authorization or "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def is_from_other_site(site: str | None, authorization: str | None) -> bool:
    """Whether a browser sends the request for a page of another site. ``site`` is ``Sec-Fetch-Site``.

    A browser sends cookies and stored passwords with links of other sites, but not tokens.
    """
    return site in {"cross-site", "same-site"} and bearer_token(authorization) is None


def _read_header(token: object) -> tuple[str | None, str | None]:
    """The algorithm and the key id of the token's header, not verified."""
    if not isinstance(token, str) or not token:
        raise _refused("there is none")
    if len(token) > MAX_BYTES:
        raise _refused(f"it is larger than {MAX_BYTES >> 10} KiB")
    try:
        header = jwt.get_unverified_header(token)
    except Exception:  # noqa: BLE001 - clients may send anything
        header = None
    # `crit` lists extensions that a reader has to support. Tokens of the auth server have none.
    if header is None or "crit" in header:
        raise _refused("it is not a JSON Web Token of an auth server")
    # A number or a list is not a name.
    return _name(header.get("alg")), _name(header.get("kid"))


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _reason(error: Exception) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"it lacks the claim {error.claim}"
    return _REASONS.get(type(error), "it cannot be read")


def _refused(reason: str, hint: str | None = None) -> InvalidTokenError:
    return InvalidTokenError(f"the token is refused: {reason}", hint=hint)
