"""The fields of a request: a safe request id, and an IP address that a client cannot forge."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usersync.contrib.request import TrustedProxies, request_id
from usersync.errors import ArgumentTypeError, ArgumentValueError

PRIVATE = TrustedProxies(["10.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize("sane", ["a", "4bf92f3577b34da6a3ce929d0e0e4736", "01J:x/y+z=@-_.", "a" * 128])
def test_a_safe_request_id_is_kept(sane):
    assert request_id(sane) == sane


@pytest.mark.parametrize(
    "other",
    [
        None,
        "",
        " ",
        "a b",
        "a\nSet-Cookie: x=1",
        "a\n",
        "a\r",
        "é",
        "'; drop table x",
        "<b>",
        "\x00",
        "a" * 129,
    ],
)
def test_an_unsafe_request_id_is_replaced(other):
    assert uuid.UUID(request_id(other)).version == 4


@given(st.text())
def test_every_used_request_id_is_safe(text):
    found = request_id(text)
    assert found.isascii()
    assert 1 <= len(found) <= 128
    assert not set(found) & set("\r\n\0 \"'<>;&|$`\\")


@pytest.mark.parametrize(
    ("peer", "header", "client"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # the peer is not trusted
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),  # 1.1.1.1 is forged by the client
        ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.9.9.9", "198.51.100.1"),
        ("10.0.0.1", "10.1.1.1, 198.51.100.1, 10.9.9.9", "198.51.100.1"),
        ("10.0.0.1", "10.2.2.2, 10.9.9.9", "10.2.2.2"),  # a client in the same network
        ("10.0.0.1", "198.51.100.1:5678", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::1]:5678", "2001:db8::1"),
        ("fd00::1", "2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", None, "fe80::1"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        (
            "10.0.0.1",
            "1.1.1.1, unknown",
            "10.0.0.1",
        ),  # a proxy that wrote `unknown` confirms no address before it
        ("10.0.0.1", "1.1.1.1, , ", "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1, " + "9" * 5000, "10.0.0.1"),
        ("testclient", "1.1.1.1", None),
        (None, "1.1.1.1", None),
        ("", "1.1.1.1", None),
    ],
)
def test_the_client_is_the_address_before_the_trusted_proxies(peer, header, client):
    assert PRIVATE.client(peer, header) == client


def test_without_trusted_proxies_the_header_is_ignored():
    assert TrustedProxies().client("10.0.0.1", "198.51.100.1") == "10.0.0.1"


def test_a_proxy_on_a_unix_socket_is_trusted_if_named():
    proxies = TrustedProxies(["unix", "10.0.0.7"])
    assert proxies.client(None, "1.1.1.1, 198.51.100.1, 10.0.0.7") == "198.51.100.1"
    assert proxies.client("", None) is None
    assert proxies.client("203.0.113.9", "198.51.100.1") == "203.0.113.9"


_ADDRESSES = st.one_of(
    st.ip_addresses(network="10.0.0.0/8"), st.ip_addresses(v=4), st.ip_addresses(v=6), st.text(max_size=20)
)


@given(st.lists(_ADDRESSES), st.lists(st.ip_addresses(network="10.0.0.0/8"), max_size=3))
def test_nothing_that_a_client_sends_changes_its_address(invented, further_proxies):
    sent = ", ".join(map(str, invented))
    added = ", ".join(["203.0.113.9", *map(str, further_proxies)])
    assert PRIVATE.client("10.0.0.1", f"{sent}, {added}" if sent else added) == "203.0.113.9"


def test_a_very_long_header_is_truncated():
    assert PRIVATE.client("10.0.0.1", "10.1.1.1," * 100_000 + "10.2.2.2") == "10.1.1.1"
    assert PRIVATE.client("10.0.0.1", "1.1.1.1," * 100_000 + "203.0.113.9") == "203.0.113.9"


@pytest.mark.parametrize(
    ("proxies", "words"),
    [
        ("10.0.0.1", "expected a list"),
        (["*"], "neither an address nor a network"),
        (["nginx"], "neither an address nor a network"),
        ([7], "neither an address nor a network"),
        ([None], "neither an address nor a network"),
        (["10.0.0.0/33"], "neither an address nor a network"),
        (["0.0.0.0/0"], "also contains clients"),
        (["::/0"], "also contains clients"),
        (["0.0.0.0/1", "128.0.0.0/1"], "also contains clients"),
    ],
)
def test_proxies_that_cannot_be_trusted_are_refused(proxies, words):
    error = ArgumentTypeError if isinstance(proxies, str) else ArgumentValueError
    with pytest.raises(error, match=words):
        TrustedProxies(proxies)


@pytest.mark.parametrize("proxy", ["::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "10.0.0.1"])
@pytest.mark.parametrize("peer", ["::ffff:10.0.0.1", "10.0.0.1"])
def test_an_ipv4_proxy_may_be_mapped_into_ipv6(proxy, peer):
    assert TrustedProxies([proxy]).client(peer, "198.51.100.1") == "198.51.100.1"


def test_all_of_ipv4_mapped_into_ipv6_is_refused():
    with pytest.raises(ArgumentValueError, match="contains clients"):
        TrustedProxies(["::ffff:0.0.0.0/96"])
