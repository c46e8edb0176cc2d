"""The console in a browser: no error, no foreign request, readable in both colour schemes and on a phone."""

from __future__ import annotations

import threading

import pytest

from fix_browser import READERS
from usersync.console.local import LocalConsole

pytestmark = [pytest.mark.newest_server, pytest.mark.timeout(300)]


@pytest.fixture
def link(project):
    served = LocalConsole(project.database.dsn())
    thread = threading.Thread(target=served.serve)
    thread.start()
    yield served.url
    served.stop()
    thread.join()


def test_a_browser_shows_every_page(project, link, chromium):
    paths = [
        *(
            "/",
            "/users",
            "/events",
            "/entity?entity=products/7",
            "/failures",
            "/rejected",
            "/tracked",
            "/doctor",
        ),
        *(f"/users/{each}" for each in (project.well, project.stale, project.failing)),
        *(f"/events/{each}" for each in (project.first, project.hostile, project.huge, project.wide)),
    ]
    address = link.partition("/open/")[0]
    context = chromium.new_context()
    page = context.new_page()
    complaints, asked, wide, dark = [], [], [], {}
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(link)
    assert page.url == f"{address}/"
    for width, scheme in READERS:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        for path in paths:
            page.goto(address + path)
            assert page.locator("h1").is_visible(), path
            assert page.locator("#content").is_visible(), path
            if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                wide.append((path, width))
        colour = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
        dark[scheme] = sum(page.evaluate(colour)) < 380
    # By the keyboard: the first stop skips the navigation; a search is sent by Enter.
    page.goto(f"{address}/users")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.get_by_label("Id, e-mail address or phone number").fill("stale@example.com")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}/users/{project.stale}")
    context.close()
    assert complaints == []
    assert {url for url in asked if not url.startswith(f"{address}/")} == set()
    assert wide == []
    assert dark == {"light": False, "dark": True}
