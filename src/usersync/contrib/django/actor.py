"""The actor of a request, looked up when an event is recorded.

Reading ``request.user`` loads the session and the user, and makes the response vary by cookie. Most requests
record nothing, and those that do have usually loaded their user.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections, transaction
from django.utils.functional import LazyObject, empty

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOBODY = {"actor_type": "anonymous"}


def actor_of(request: Any) -> Mapping[str, Any]:
    """The user of a verified token, else ``request.user``.

    Loads the user if the request has not loaded it yet. That is impossible in an asyncio view, and raises
    ``SynchronousOnlyOperation``.
    """
    checked = getattr(request, "supabase_user", None)
    if checked is not None:
        return dict(checked.actor)
    user = _user_of(request)
    if user is None or not user.is_authenticated:
        return _NOBODY
    return {"actor_id": str(user.pk)}


def _user_of(request: Any) -> Any:
    user = getattr(request, "user", None)
    if not isinstance(user, LazyObject) or user._wrapped is not empty:  # noqa: SLF001 - no public way to see whether it is loaded
        return user
    if hasattr(request, "_acached_user"):  # what `await request.auser()` has loaded
        return request._acached_user  # noqa: SLF001
    if not in_a_loop():
        _load(user)
        return user
    if settings.SESSION_COOKIE_NAME in request.COOKIES:
        raise SynchronousOnlyOperation("await request.auser() before recording")
    return None


def in_a_loop() -> bool:
    """Whether the caller runs in an event loop, where nothing may block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _load(user: Any) -> None:
    """Load the user in a savepoint, because a failed query must not abort the caller's transaction."""
    with ExitStack() as savepoints:
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block:
                savepoints.enter_context(transaction.atomic(using=connection.alias))
        _ = user.is_authenticated
