"""Decides where ``http://`` is allowed: keys must not be sent unencrypted over a public network."""

from __future__ import annotations

import ipaddress
import logging

_log = logging.getLogger("usersync")

# Not ipaddress's is_private: that includes addresses of documentation and of benchmarks.
_PRIVATE_NETWORKS = tuple(
    map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)

#: Suffixes of names that only a private network resolves, such as ``host.docker.internal``.
_PRIVATE_SUFFIXES = (".internal", ".local", ".lan", ".svc", ".home.arpa")


def plain_http_is_refused(host: str, *, insecure_http: bool = False) -> bool:
    """Whether ``http://`` is refused for a host.

    It is allowed on this machine, and with a warning in a private network (a private address, or a name
    without a dot, such as the name of a container). Elsewhere it requires ``insecure_http``.
    """
    if is_loopback(host):
        return False
    if is_public(host) and not insecure_http:
        return True
    _log.warning("http://%s is not encrypted: others in the network can read and change what is sent", host)
    return False


def is_public(host: str) -> bool:
    """Whether a host is neither this machine nor in a private network."""
    return not is_loopback(host) and not is_private(host)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def is_private(host: str) -> bool:
    """Whether a host is in a private network."""
    address = _address(host)
    if address is None:
        return "." not in host or host.endswith(_PRIVATE_SUFFIXES)
    return any(address.version == each.version and address in each for each in _PRIVATE_NETWORKS)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
