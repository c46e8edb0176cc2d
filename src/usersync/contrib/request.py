"""What an audit context takes from a request: its id, the client's address, the user agent.

Nothing here trusts the client. A request id is used if it is harmless text. An address is believed only as
far as proxies vouch for it whose own addresses the application has named.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Address

#: The header in which a request id comes and is sent back.
REQUEST_ID_HEADER = "X-Request-ID"

#: Stands in a list of proxies for one that connects through a Unix socket, and so has no address.
UNIX_SOCKET = "unix"

#: Where a request carries its audit context: a key of the ASGI scope or of the WSGI environment. An
#: application that is mounted into another one finds the context of the outer one here, and keeps its request
#: id.
CONTEXT_KEY = "usersync.audit_context"

#: Every character is one that neither a header, a log line nor a query in a shell gives a meaning to.
_SANE_ID = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}")

# More hops than anybody has. What is left of a longer header is the client's own invention.
_MOST_HOPS = 20

# The largest network that is private, fc00::/7. A larger one holds clients as well.
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
    """The first fields of a request's audit context. A visitor is anonymous until a token was checked."""
    return {
        "request_id": request_id(given_id),
        "ip": proxies.client(peer, forwarded_for),
        "user_agent": user_agent,
        "actor_type": "anonymous",
    }


def request_id(given: str | None) -> str:
    """The id that came with the request if it is 1 to 128 harmless characters, else a fresh one."""
    return given if given is not None and _SANE_ID.fullmatch(given) else str(uuid4())


class TrustedProxies:
    """The proxies whose ``X-Forwarded-For`` is believed: addresses, networks (``10.0.0.0/8``), ``"unix"``.

    Raises ``SettingsError`` for anything else, and for networks that hold clients too.
    """

    def __init__(self, proxies: Iterable[str] = ()) -> None:
        if isinstance(proxies, str):
            raise SettingsError(
                f"trusted_proxies: expected a list of addresses and networks, got {proxies!r}",
                hint=f"Write [{proxies!r}].",
            )
        named = list(proxies)
        self._unix = UNIX_SOCKET in named
        self._networks = [_network(proxy) for proxy in named if proxy != UNIX_SOCKET]

    def client(self, peer: str | None, forwarded_for: str | None) -> str | None:
        """The address of the client, or None if there is none to be had.

        ``peer`` is who connected; None or empty for a Unix socket. ``forwarded_for`` is the header, several
        of them joined by commas in the order in which they came. It is walked from the right, which is where
        the nearest proxy writes: each proxy that is trusted vouches for the one before it. What a client has
        put into the header itself stays left of the address that the first trusted proxy saw.
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
            raise ValueError  # noqa: TRY004 - a number is an address to ipaddress, and a mistake here
        network = _unmapped(ip_network(proxy, strict=False))
    except ValueError:
        raise SettingsError(
            f"trusted_proxies: {proxy!r} is neither an address nor a network",
            hint='Write "10.0.0.7" or "10.0.0.0/8", and "unix" for a proxy on a Unix socket. Names are not '
            "looked up, and there is no wildcard.",
        ) from None
    if network.prefixlen < _LEAST_PREFIX:
        raise SettingsError(
            f"trusted_proxies: {proxy!r} holds clients too, and who is trusted may claim to be anybody",
            hint="Name the addresses of your proxies only.",
        )
    return network


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """The IPv4 network that is written inside IPv6 (``::ffff:10.0.0.0/104``); others as they are."""
    inside = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if inside is None or network.prefixlen < _MAPPED_PREFIX:
        return network
    return IPv4Network((inside, network.prefixlen - _MAPPED_PREFIX))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """The address alone: without a port, brackets or a zone, and IPv4 as such where it came inside IPv6."""
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
