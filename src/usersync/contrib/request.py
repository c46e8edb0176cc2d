"""The fields of a request's audit context: its id, the client's address, the user agent.

The client is not trusted. A request id is used if it is harmless text. A forwarded address is used only if it
comes from a proxy that the application has named.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from usersync.errors import ArgumentTypeError, ArgumentValueError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Address

__all__ = ["TrustedProxies"]

#: The header of the request id, in requests and responses.
REQUEST_ID_HEADER = "X-Request-ID"

#: In a list of proxies: a proxy that connects through a Unix socket and so has no address.
UNIX_SOCKET = "unix"

#: The key of the audit context in the ASGI scope or the WSGI environment. An application that is mounted into
#: another one finds the outer context here, and keeps its request id.
CONTEXT_KEY = "usersync.audit_context"

#: No character has a special meaning in a header, a log line or a shell.
_SANE_ID = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}")

# More hops than any real deployment has. A client can make the header longer.
_MOST_HOPS = 20

# The largest private network is fc00::/7. A larger network also contains clients.
_LEAST_PREFIX = 7

_LONGEST_ADDRESS = 60

# IPv4 addresses are written inside IPv6 below ::ffff:0:0/96.
_MAPPED_PREFIX = 96


def fields_of_request(
    proxies: TrustedProxies,
    *,
    given_id: str | None,
    peer: str | None,
    forwarded_for: str | None,
    user_agent: str | None,
) -> dict[str, Any]:
    """The first fields of a request's audit context. The actor is anonymous until a token is verified."""
    return {
        "request_id": request_id(given_id),
        "ip": proxies.client(peer, forwarded_for),
        "user_agent": user_agent,
        "actor_type": "anonymous",
    }


def request_id(given: str | None) -> str:
    """The id in the request's header if it is 1 to 128 harmless characters, else a new one."""
    return given if given is not None and _SANE_ID.fullmatch(given) else str(uuid4())


class TrustedProxies:
    """The proxies whose ``X-Forwarded-For`` is trusted: addresses, networks (``10.0.0.0/8``), ``"unix"``.

    Raises ``SettingsError`` for anything else, and for networks that also contain clients.
    """

    def __init__(self, proxies: Iterable[str] = ()) -> None:
        if isinstance(proxies, str):
            raise ArgumentTypeError(
                f"trusted_proxies: expected a list of addresses and networks, got {proxies!r}",
                hint=f"Write [{proxies!r}].",
            )
        named = list(proxies)
        self._unix = UNIX_SOCKET in named
        self._networks = [_network(proxy) for proxy in named if proxy != UNIX_SOCKET]

    def client(self, peer: str | None, forwarded_for: str | None) -> str | None:
        """The address of the client, or None if it is unknown.

        ``peer`` is the address of the connection; None or empty for a Unix socket. ``forwarded_for`` is the
        header; several headers are joined by commas in their order. It is read from the right, where the
        nearest proxy writes: the address before a trusted proxy is the one that it saw. Values that the
        client sent itself are left of the result.
        """
        nearest = _address(peer or "")
        if nearest is None:
            if peer or not self._unix:
                return None
        elif not self._trusts(nearest):
            return str(nearest)
        for hop in reversed((forwarded_for or "").rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]):
            address = _address(hop.strip())
            if address is None:
                break
            nearest = address
            if not self._trusts(address):
                break
        return str(nearest) if nearest is not None else None

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address.version == each.version and address in each for each in self._networks)


def _network(proxy: object) -> IPv4Network | IPv6Network:
    try:
        if not isinstance(proxy, str):
            raise ValueError  # noqa: TRY004 - ipaddress accepts numbers, but here a number is a mistake
        network = _unmapped(ip_network(proxy, strict=False))
    except ValueError:
        raise ArgumentValueError(
            f"trusted_proxies: {proxy!r} is neither an address nor a network",
            hint='Write "10.0.0.7" or "10.0.0.0/8", and "unix" for a proxy on a Unix socket. Names are not '
            "looked up, and there is no wildcard.",
        ) from None
    if network.prefixlen < _LEAST_PREFIX:
        raise ArgumentValueError(
            f"trusted_proxies: {proxy!r} also contains clients, which could then claim any address",
            hint="Name the addresses of your proxies only.",
        )
    return network


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """The IPv4 network that is mapped into IPv6 (``::ffff:10.0.0.0/104``); other networks unchanged."""
    inside = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if inside is None or network.prefixlen < _MAPPED_PREFIX:
        return network
    return IPv4Network((inside, network.prefixlen - _MAPPED_PREFIX))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The address alone: without a port, brackets or a zone, with IPv4 mapped into IPv6 written as IPv4."""
    if len(text) > _LONGEST_ADDRESS:
        return None
    bare = text.rsplit(":", 1)[0] if text.count(":") == 1 else text
    if bare.startswith("["):
        bare = bare[1:].split("]", 1)[0]
    try:
        found = ip_address(bare.split("%", 1)[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
