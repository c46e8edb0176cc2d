"""For supabase-py with a service key: passes the actor to the database, where row tracking records it.

::

    client = create_client(url, secret_key)
    pass_context(client)
    client.table("products").insert({"name": "Bolt"}).execute()
"""

from __future__ import annotations

from typing import Any, Protocol

from usersync.config.extras import needed
from usersync.contrib.carrying import as_text, carried_context
from usersync.errors import ArgumentTypeError, SettingsError

with needed("api", "usersync.contrib.supabase"):
    import httpx

__all__ = ["HEADER", "pass_context"]

#: The header of the context. The database accepts it from ``service_role`` only.
HEADER = "usersync-context"


class SupabaseClient(Protocol):
    """What ``pass_context()`` needs of supabase-py's ``Client`` or ``AsyncClient``."""

    @property
    def postgrest(self) -> Any:
        """The client of the Data API. It is a new one after a sign-in or a sign-out."""

    @property
    def auth(self) -> Any:
        """The client of the auth server."""


def pass_context(client: SupabaseClient) -> None:
    """Send the actor, the request id and the tenant of the audit context with each request to the Data API.

    Row changes that ``usersync audit track`` records then have them; ``metadata.actor_source`` is ``header``.
    The database accepts the header from ``service_role`` only: with a publishable key or a signed-in user, it
    has no effect. Without a context nothing is sent. Calling it again has no effect. Returns at once; sends
    nothing itself.

    Raises ``SettingsError`` if ``client`` is not a client of supabase-py 2.34 or newer.
    """
    postgrest: Any = getattr(client, "postgrest", None)
    if not isinstance(getattr(postgrest, "session", None), httpx.Client | httpx.AsyncClient):
        raise ArgumentTypeError(
            f"pass_context: expected a client of supabase-py, got {type(client).__name__}",
            hint="Pass the result of create_client() or of acreate_client().",
        )
    if postgrest.schema("public").session is not postgrest.session:
        raise SettingsError(
            "pass_context: this version of supabase-py has another session for each schema()",
            hint="pip install 'supabase>=2.34'",
        )
    if _attach(client):
        # The client replaces the session when a user signs in or out.
        client.auth.on_auth_state_change(lambda *_: _attach(client))


def _attach(client: SupabaseClient) -> bool:
    """Add the hook to the current session. False if the session has it."""
    postgrest = client.postgrest
    session: httpx.Client | httpx.AsyncClient = postgrest.session
    base = httpx.URL(str(postgrest.base_url))
    hooks = session.event_hooks
    # Clients may share a session.
    for each in hooks["request"]:
        hook = getattr(each, "__self__", None)
        if isinstance(hook, _Hook):
            return hook.add(base)
    hook = _Hook()
    hook.add(base)
    call = hook.call_async if isinstance(session, httpx.AsyncClient) else hook.call
    session.event_hooks = {**hooks, "request": [*hooks["request"], call]}
    return True


class _Hook:
    """Sets the header of each request to the Data API, and removes it from others, such as redirects."""

    def __init__(self) -> None:
        self._bases: list[httpx.URL] = []

    def add(self, base: httpx.URL) -> bool:
        is_new = base not in self._bases
        if is_new:
            self._bases.append(base)
        return is_new

    def call(self, request: httpx.Request) -> None:
        request.headers.pop(HEADER, None)
        if any(_is_below(request.url, base) for base in self._bases) and (context := carried_context()):
            request.headers[HEADER] = as_text(context)

    async def call_async(self, request: httpx.Request) -> None:
        self.call(request)


def _is_below(url: httpx.URL, base: httpx.URL) -> bool:
    same_server = (url.scheme, url.host, url.port) == (base.scheme, base.host, base.port)
    return same_server and url.path.startswith(f"{base.path.rstrip('/')}/")
