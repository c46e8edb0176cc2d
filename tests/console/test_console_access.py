"""Access to the console: ``authorize`` of the mounted console, and the one-time link of the local one."""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request

import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse
from starlette.routing import Mount
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from usersync import console
from usersync.console.local import LocalAccess, LocalConsole
from usersync.errors import SettingsError

pytestmark = pytest.mark.newest_server

UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nothing"
PATHS = ("/", "/events", "/static/console.css", "/nothing")


@pytest.mark.parametrize("authorize", [None, True, "admin"])
def test_the_console_requires_authorize(authorize):
    with pytest.raises(SettingsError, match="needs authorize"):
        console.app(UNREACHABLE, authorize=authorize)
    with pytest.raises(SettingsError, match="needs authorize"):
        console.app(UNREACHABLE)


def test_a_single_connection_is_refused_as_a_source():
    with pytest.raises(SettingsError, match="ConnectionPool"):
        console.app(object(), authorize=lambda _: True)


async def no(_):
    return False


def refuse(_):
    raise HTTPException(401, "Sign in.")


DENIALS = [
    (no, 403),
    (lambda _: None, 403),
    (lambda _: 1, 403),
    (lambda _: "yes", 403),
    (refuse, 401),
    (lambda _: RedirectResponse("/sign-in", 303), 303),
]


@pytest.mark.parametrize(("authorize", "status"), DENIALS)
def test_a_page_is_shown_only_if_authorize_returns_true(authorize, status):
    browser = TestClient(console.app(UNREACHABLE, authorize=authorize), follow_redirects=False)
    for path in PATHS:
        answer = browser.get(path)
        assert answer.status_code == status, path
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    with pytest.raises((WebSocketDisconnect, WebSocketDenialResponse)), browser.websocket_connect("/"):
        pass


def test_an_error_of_authorize_shows_no_page():
    def fail(_):
        raise RuntimeError("secret text")

    browser = TestClient(console.app(UNREACHABLE, authorize=fail), raise_server_exceptions=False)
    answer = browser.get("/")
    assert answer.status_code == 500
    assert "secret text" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_the_console_works_under_any_path_and_its_pages_stay_below_it(project):
    application = Starlette(
        routes=[Mount("/admin/sync", console.app(project.database.dsn(), authorize=lambda _: True))]
    )
    browser = TestClient(application)
    page = browser.get("/admin/sync/events?entity=order").text
    addresses = re.findall(r'(?:href|action)="([^"#]+)"', page)
    assert all(each.startswith("/admin/sync/") for each in addresses)
    assert 'href="/admin/sync/events" aria-current="page"' in page
    assert browser.get("/admin/sync/static/console.css").status_code == 200
    assert browser.get("/admin/sync/users?q=ada@example.com").url.path.startswith("/admin/sync/users/")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_pages_refuse_every_method_except_get(method):
    browser = TestClient(console.app(UNREACHABLE, authorize=lambda _: True))
    for path in ("/", "/events", "/doctor"):
        assert browser.request(method, path).status_code == 405


@pytest.fixture
def access():
    return LocalAccess(8900)


@pytest.fixture
def local(access):
    def make(host="127.0.0.1:8900"):
        return TestClient(
            console.app(UNREACHABLE, authorize=access), base_url=f"http://{host}", follow_redirects=False
        )

    return make


def test_the_one_time_link_works_once_and_opens_a_session(access, local):
    link = access.url.removeprefix("http://127.0.0.1:8900")
    first, second = local(), local()
    assert [first.get(path).status_code for path in PATHS] == [403] * len(PATHS)
    assert first.get("/open/wrong").status_code == 403
    assert first.head(link).status_code == 403
    opened = first.get(link)
    assert (opened.status_code, opened.headers["location"]) == (303, "/")
    cookie = opened.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "domain" not in cookie
    assert first.get("/static/console.css").status_code == 200
    assert "used already" in second.get(link).text
    assert second.get(link).status_code == 403
    assert second.get("/static/console.css").status_code == 403
    assert second.get("/", headers={"cookie": "usersync_console_8900=wrong"}).status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example:8900", "127.0.0.1", "127.0.0.1:8901", "localhost.evil.example:8900"]
)
def test_another_host_header_is_refused(access, local, host):
    browser = local(host)
    link = access.url.removeprefix("http://127.0.0.1:8900")
    assert browser.get(link).status_code == 421
    # The link still works with the right Host header.
    assert local("localhost:8900").get(link).status_code == 303


def test_the_server_listens_on_loopback_and_does_not_log_the_link(project, capfd):
    served = LocalConsole(project.database.dsn())
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/open/[\w-]{43}", served.url)
    thread = threading.Thread(target=served.serve)
    thread.start()
    try:
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(served.url) as answer:
            assert "Overview" in answer.read().decode()
            assert "server" not in answer.headers
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.build_opener().open(served.url)
        refused.value.close()
        assert refused.value.code == 403
    finally:
        served.stop()
        thread.join()
    assert served.url.rpartition("/")[2] not in "".join(capfd.readouterr())


def test_the_error_for_a_port_in_use_names_the_port(project):
    taken = LocalConsole(project.database.dsn())
    port = int(taken.url.split(":")[2].partition("/")[0])
    with pytest.raises(SettingsError, match=f"cannot listen at 127.0.0.1:{port}"):
        LocalConsole(project.database.dsn(), port)
    taken.close()
