"""The URLs and addresses that a webhook may have."""

from __future__ import annotations

import pytest

from usersync.errors import ArgumentValueError
from usersync.events.webhooks.endpoint import Endpoint, refusal

PUBLIC = ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]

PRIVATE = [
    "127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1",
    "::1", "fd12:3456::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
]  # fmt: skip

# ruff: noqa: S104 - addresses that are refused
NEVER = [
    "169.254.169.254", "169.254.170.2", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254",
    "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "0.0.0.0", "0.1.2.3", "::", "fe80::1", "fe80::1%eth0", "fec0::1", "224.0.0.1", "239.1.1.1", "ff02::1",
    "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "192.0.0.8",
    "2001:db8::1", "::127.0.0.1", "::7f00:1", "2002:7f00:1::", "2002:a9fe:a9fe::", "2001:0:7f00:1::",
    "64:ff9b:1::7f00:1", "::ffff:0.0.0.0", "100::1", "", "localhost", "127.1", "2130706433", "0x7f.0.0.1",
    "0177.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_need_https(address):
    assert refusal(address, encrypted=True, allow_private=False) is None
    assert refusal(address, encrypted=True, allow_private=True) is None
    assert "requires https" in refusal(address, encrypted=False, allow_private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_need_an_option(address):
    assert "private address" in refusal(address, encrypted=True, allow_private=False)
    assert refusal(address, encrypted=True, allow_private=True) is None
    assert refusal(address, encrypted=False, allow_private=True) is None


@pytest.mark.parametrize("address", NEVER)
def test_metadata_services_and_other_addresses_are_never_allowed(address):
    assert refusal(address, encrypted=True, allow_private=True)
    assert refusal(address, encrypted=False, allow_private=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hooks",
        "HTTPS://example.com",
        "https://example.com:8443/a?b=c",
        "https://münchen.example/",
        "https://93.184.216.34/",
        "https://[2606:2800:220:1::1]/",
        "https://dead.beef/",
        "https://face.example./",
    ],
)
def test_usual_urls_are_allowed(url):
    assert Endpoint(url).encrypted


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com",
        "ftp://example.com",
        "file:///etc/passwd",
        "https://",
        "https:///a",
        "https://:1",
        "http://example.com",
        "https://user:password@example.com/",
        "https://user@example.com",
        "https://@example.com",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://169.254.169.254/latest",
        "https://2130706433/",
        "https://127.1/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://0x7f000001/",
        "https://127.0.0.1./",
        "https://[fe80::1%25eth0]/",
        "https://[::1",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com:x/",
        "https://example.com/a b",
        "https://exa\nmple.com/",
        "https://example.com/\r\nx: y",
        "https://example.com\\@127.0.0.1/",
        "https://example.com/\u202e",
        "https://\ud800/",
        "https://example.com/" + "a" * 2_000,
        None,
        b"https://example.com",
    ],
)
def test_unusual_urls_are_refused(url):
    with pytest.raises(ArgumentValueError, match="the webhook's URL") as caught:
        Endpoint(url)
    assert "https" in caught.value.hint


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/", "http://app/hooks", "https://10.0.0.1/", "http://[::1]:8000/"]
)
def test_private_urls_need_an_option(url):
    Endpoint(url, allow_private=True)
    if url != "http://app/hooks":
        with pytest.raises(ArgumentValueError, match="is a private address"):
            Endpoint(url.replace("http:", "https:"))


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/", "https://[fd00:ec2::254]/", "http://0.0.0.0/", "http://93.184.216.34/"]
)
def test_allow_private_does_not_allow_every_address(url):
    with pytest.raises(ArgumentValueError):
        Endpoint(url, allow_private=True)


def test_errors_do_not_contain_a_password():
    with pytest.raises(ArgumentValueError) as caught:
        Endpoint("https://user:hidden@example.com/")
    assert "hidden" not in f"{caught.value} {caught.value.hint}"
