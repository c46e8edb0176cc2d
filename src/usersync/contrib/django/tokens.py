"""Verifies Supabase's access token of each request."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from usersync.errors import InvalidTokenError, KeysUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_log = logging.getLogger("usersync.django")


class TokenReader:
    """Sets ``request.supabase_user`` to the user of the request's token; None without a valid token.

    It refuses no request; the view decides. ``options`` are those of ``USERSYNC["TOKENS"]``; with None it
    does nothing. Needs ``usersync[auth]``.
    """

    def __init__(self, options: Mapping[str, Any] | None) -> None:
        self._is_on = options is not None
        if options is not None:
            from usersync.contrib import auth  # noqa: PLC0415 - an extra

            self._blocking = auth.TokenVerifier.from_env(**options)
            self._async = auth.AsyncTokenVerifier.from_env(**options)
            self._token_of = auth.bearer_token

    def read(self, request: Any) -> None:
        """Check the token of a request."""
        if self._is_on:
            request.supabase_user = None
            if token := self._token_of(request.META.get("HTTP_AUTHORIZATION")):
                with _reported():
                    request.supabase_user = self._blocking.verify(token)

    async def read_async(self, request: Any) -> None:
        """The same in an event loop."""
        if self._is_on:
            request.supabase_user = None
            if token := self._token_of(request.META.get("HTTP_AUTHORIZATION")):
                with _reported():
                    request.supabase_user = await self._async.verify(token)


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except InvalidTokenError as error:
        # Clients may send invalid tokens.
        _log.info("%s", error)
    except KeysUnavailableError as error:
        _log.warning("%s", error)
