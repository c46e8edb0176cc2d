"""Supabase's access tokens, checked as a request comes in."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from usersync.errors import InvalidTokenError, KeysUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger("usersync.django")


class TokenReader:
    """Sets ``request.supabase_user``: whose token came with the request; None without one that is good.

    It lets nobody in, and turns nobody away: that is the view's to decide. ``options`` are those of
    ``USERSYNC["TOKENS"]``; with None it does nothing. Needs ``usersync[auth]``.
    """

    def __init__(self, options: Mapping[str, Any] | None) -> None:
        self._blocking: Any = None
        self._async: Any = None
        if options is not None:
            from usersync.contrib.auth import AsyncTokenVerifier, TokenVerifier  # noqa: PLC0415 - an extra

            self._blocking = TokenVerifier.from_env(**options)
            self._async = AsyncTokenVerifier.from_env(**options)

    def read(self, request: Any) -> None:
        """Check the token of a request."""
        if self._blocking is None:
            return
        request.supabase_user = None
        if token := _token_of(request):
            try:
                request.supabase_user = self._blocking.verify(token)
            except (InvalidTokenError, KeysUnavailableError) as error:
                _report(error)

    async def read_async(self, request: Any) -> None:
        """The same in an event loop."""
        if self._async is None:
            return
        request.supabase_user = None
        if token := _token_of(request):
            try:
                request.supabase_user = await self._async.verify(token)
            except (InvalidTokenError, KeysUnavailableError) as error:
                _report(error)


def _token_of(request: Any) -> str | None:
    scheme, _, token = str(request.META.get("HTTP_AUTHORIZATION", "")).strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _report(error: Exception) -> None:
    # Anybody can send a bad token; keys that cannot be fetched are the operator's business.
    level = logging.INFO if isinstance(error, InvalidTokenError) else logging.WARNING
    _log.log(level, "%s", error)
