"""Which URLs and which addresses a webhook may have.

A worker runs inside the application's network, where services trust every caller, and the metadata service
of the cloud returns credentials. So a request goes to public addresses only, or also to private ones if the
subscription allows it. The URL does not show the address: a name may resolve to any address, and to another
one at the next request. So the address is checked when a socket connects to it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from usersync.control_characters import CONTROL
from usersync.errors import ArgumentValueError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LONGEST_URL = 2_000


def _networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(map(ipaddress.ip_network, texts))


#: What ``allow_private`` allows: this machine, private networks, and networks shared by carriers.
_PRIVATE = _networks(
    "127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"
)

#: Services of clouds that return credentials, or control the machine. Never allowed.
_METADATA = _networks(
    "169.254.0.0/16",  # AWS, Google Cloud, Azure and others; ECS
    "fd00:ec2::/32",  # AWS
    "fd20:ce::/32",  # Google Cloud
    "fd00:c1::/32",  # Oracle Cloud
    "fd00:42::/32",  # Scaleway
    "100.100.100.200/32",  # Alibaba Cloud
    "168.63.129.16/32",  # Azure
    "192.0.0.192/32",  # Oracle Cloud
)

#: The address contains an IPv4 address, which a translator (NAT64) connects to.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

#: Tunnels, and addresses that not every version of ``ipaddress`` knows to be special.
_OTHER = _networks(
    "192.0.0.0/24",
    "192.88.99.0/24",
    "::/96",
    "64:ff9b:1::/48",
    "2001::/23",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fec0::/10",
)


def refusal(address: str, *, encrypted: bool, allow_private: bool) -> str | None:
    """Why no request may go to an address, or None if it may.

    Without encryption (``http://``), only private addresses are allowed.
    """
    try:
        numeric = ipaddress.ip_address(address)
    except ValueError:
        return f"{_shown(address)} is not an IP address"
    real = _reached(numeric)
    if _in(real, _METADATA) or _in(numeric, _METADATA):
        return f"{numeric} belongs to a metadata service"
    if _in(real, _PRIVATE):
        return None if allow_private else f"{numeric} is a private address, and the subscription allows none"
    if not real.is_global or real.is_multicast or real.is_reserved or _in(real, _OTHER):
        return f"{numeric} is not the address of a public server"
    return None if encrypted else f"{numeric} is a public address, which requires https"


def _reached(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, or the address."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _in(address: Address, networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]) -> bool:
    return any(address.version == each.version and address in each for each in networks)


@dataclass(frozen=True)
class Endpoint:
    """The URL of a receiver, checked. ``allow_private`` allows private addresses, and ``http`` to them."""

    url: str
    allow_private: bool = False

    def __post_init__(self) -> None:
        if problem := _problem(self.url, allow_private=self.allow_private):
            raise ArgumentValueError(f"the webhook's URL: {problem}", hint=_HINT)

    @property
    def encrypted(self) -> bool:
        """Whether the requests are encrypted."""
        return self.url[:6].lower() == "https:"

    def refusal(self, address: str) -> str | None:
        """Why no request may go to an address, or None."""
        return refusal(address, encrypted=self.encrypted, allow_private=self.allow_private)


_HINT = (
    "Use the https URL of a public server, as in https://example.com/hooks. A server in a private network "
    "requires --allow-private, which also allows http."
)


def _problem(url: object, *, allow_private: bool) -> str | None:
    if not isinstance(url, str) or not url.isprintable() or " " in url or "\\" in url or CONTROL.search(url):
        return "it has characters that a URL does not have"
    if len(url) > _LONGEST_URL:
        return f"it is longer than {_LONGEST_URL} characters"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return _shown(error)
    return _part_problem(parts, port) or _host_problem(parts, allow_private=allow_private)


def _part_problem(parts: SplitResult, port: int | None) -> str | None:
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "expected https:// and the name of a server"
    if "@" in parts.netloc:
        # The URL is stored and shown as it is.
        return "it has a user name or a password, which anyone could read who reads the database"
    if port == 0:
        return "port 0 is not valid"
    return None


def _host_problem(parts: SplitResult, *, allow_private: bool) -> str | None:
    encrypted = parts.scheme == "https"
    if not encrypted and not allow_private:
        return "http is not encrypted"
    host = parts.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _number_problem(host)
    return refusal(host, encrypted=encrypted, allow_private=allow_private)


def _number_problem(host: str) -> str | None:
    """A host such as ``127.1``, ``0x7f.1`` or ``2130706433`` is an address in a form that few expect."""
    last = host.rstrip(".").rpartition(".")[2]
    digits = last.removeprefix("0x")
    if digits.isdecimal() or (last != digits and all(each in "0123456789abcdef" for each in digits)):
        return f"{_shown(host)} is neither a name nor an address in the usual form"
    return None


def _shown(value: object) -> str:
    return repr(str(value))[:80]
