"""The console in a browser: errors, requests, colour schemes, widths from 80 to 2,560 pixels."""

from __future__ import annotations

import re
import socket
import threading
from itertools import cycle
from pathlib import Path
from urllib.parse import urlencode

import pytest
import uvicorn
from hostile_values import SUBSCRIPTION
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route

from fixtures_browser import VIEWPORTS, is_bright, overflowing_widths
from hooks_skips import skip_without
from node_tools import node_tool
from usersync import console
from usersync.console.local import LocalConsole
from usersync.console.rendering import HERE

pytestmark = [pytest.mark.newest_server, pytest.mark.timeout(300)]


NEW_EVENT = """
    insert into public.audit_logs (id, occurred_at, action, outcome, actor_type, source)
    values (gen_random_uuid(), now(), 'invoice.<b>new</b>', 'succeeded', 'user', 'app')
"""


@pytest.fixture
def link(project):
    served = LocalConsole(project.database.dsn(), allow_actions=True)
    thread = threading.Thread(target=served.serve)
    thread.start()
    yield served.url
    served.stop()
    thread.join()


@pytest.fixture
def seen(link, chromium):
    """A page of the console, its URL, the browser's errors, and the URLs that the browser requests."""
    address = link.partition("/open/")[0]
    context = chromium.new_context()
    page = context.new_page()
    complaints, asked = [], []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(link)
    assert page.url == f"{address}/"
    yield page, address, complaints, asked
    context.close()


def paths_of(project):
    """The path of each page that shows data."""
    return [
        *(
            "/",
            "/users?q=script",
            "/events",
            "/entity?entity=products/7",
            "/entity?entity=products/7&at=2099-01-01T00:00:00Z",
            "/entity?entity=products/7&from=2020-01-01T00:00:00Z&at=2099-01-01T00:00:00Z",
            "/failures",
            "/rejected",
            "/tracked",
            "/subscriptions",
            f"/subscriptions?{urlencode({'name': SUBSCRIPTION})}",
            "/doctor",
        ),
        *(f"/users/{each}" for each in (project.well, project.stale, project.failing)),
        f"/users/{project.well}/deletion",
        *(f"/events/{each}" for each in (project.first, project.hostile, project.huge, project.wide)),
    ]


@pytest.mark.slow
def test_a_browser_shows_every_page(project, seen):
    """Each viewport opens some of the pages. Then every page must fit every width."""
    page, address, complaints, asked = seen
    viewports = [*VIEWPORTS, (80, "light"), (2560, "dark")]
    wide, bright = [], set()
    for path, (width, scheme) in zip(paths_of(project), cycle(viewports), strict=False):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        page.goto(address + path)
        assert page.locator("h1").is_visible(), path
        assert page.locator("#content").is_visible(), path
        bright.add((scheme, is_bright(page)))
        wide += [(path, each) for each in overflowing_widths(page, viewports)]
    assert complaints == []
    assert {url for url in asked if not url.startswith(f"{address}/")} == set()
    assert wide == []
    assert bright == {("light", True), ("dark", False)}


LONG = "subscription_plan.downgrade_requested_by_the_administrator"
LONG_EVENT = """
    insert into public.audit_logs (
        id, occurred_at, action, outcome, actor_type, source, entity_type, entity_id, actor_id
    )
    values (gen_random_uuid(), now(), %s, 'succeeded', 'user', 'app', 'subscription_plan',
        '8a9a021e-a648-47dd-8683-9eb905b6e6e3', 'supabase_auth_admin')
"""
#: The words of an element that a browser breaks: those in more than one line.
BROKEN_WORDS = """
    each => [...each.querySelectorAll("tbody th, tbody td:not(:last-child)")].flatMap(cell => {
        const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), found = [];
        while (texts.nextNode()) for (const word of texts.currentNode.data.matchAll(/[^\\s-]+/g)) {
            const range = document.createRange();
            range.setStart(texts.currentNode, word.index);
            range.setEnd(texts.currentNode, word.index + word[0].length);
            if (new Set([...range.getClientRects()].map(box => box.top)).size > 1) found.push(word[0]);
        }
        return found;
    })
"""


@pytest.mark.slow
def test_narrow_tables_break_no_word(project, seen):
    page, address, _, _ = seen
    with project.database.connect() as owner:
        owner.execute(LONG_EVENT, [LONG])
    for path in (f"/events?action={LONG}", "/subscriptions?name=quiet", "/doctor?run=1"):
        page.goto(address + path)
        for width in (320, 390, 768, 1280, 2560):
            page.set_viewport_size({"width": width, "height": 800})
            found = page.locator(".cards").first.evaluate(BROKEN_WORDS)
            assert [word for word in found if len(word) < 25] == [], (path, width)
    page.goto(f"{address}/events?action={LONG}")
    for width, is_card in ((390, True), (1280, False)):
        page.set_viewport_size({"width": width, "height": 800})
        row, entity = (
            page.locator(f".events tbody {each}").bounding_box() for each in ("tr", "td:nth-child(4)")
        )
        assert row["height"] < 200, width
        assert (entity["width"] > 300) == is_card
    assert page.get_by_role("link", name=LONG, exact=True).count() == 1


def violations(page, address):
    """The violations that axe finds on a page: the rule and the element."""
    axe = node_tool("axe-core/axe.min.js") or skip_without("axe-core")
    page.goto(address)
    page.evaluate(Path(axe).read_text())
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return {(each["id"], node["html"][:200]) for each in found for node in each["nodes"]}


@pytest.mark.slow
def test_axe_finds_no_accessibility_violation(project, seen):
    """Checks both colour schemes, because contrast is one of the rules."""
    page, address, _, _ = seen
    paths = [*paths_of(project), "/users?q=nobody", "/users?q=script", "/events?since=yesterday", "/nothing"]
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert {path: found for path in paths if (found := violations(page, address + path))} == {}


@pytest.mark.slow
def test_the_console_can_be_used_by_keyboard(project, seen):
    page, address, complaints, _ = seen
    # The first tab stop skips the navigation, and Enter sends a search.
    page.goto(f"{address}/users")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.get_by_label("Id, e-mail address, phone number or name").fill("stale@example.com")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}/users/{project.stale}")
    page.goto(f"{address}/events?action=invoice.*")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "action"
    page.keyboard.type("jk")
    assert page.get_by_label("Action").input_value() == "jkinvoice.*"
    page.get_by_role("button", name="Search").focus()
    for key in "jjjk":
        page.keyboard.press(key)
    place = page.locator(".events tbody th a").nth(1).get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}{place}")
    assert complaints == []


@pytest.mark.slow
def test_new_events_appear_without_a_reload(project, seen):
    page, address, complaints, _ = seen
    page.goto(f"{address}/events?action=live.*")
    page.get_by_text("No event matches").wait_for()
    page.goto(f"{address}/events?action=invoice.*")
    with project.database.connect() as owner:
        # An event that is recorded before the page follows, and one afterwards.
        for number in (1, 2):
            owner.execute(NEW_EVENT)
            if number == 1:
                page.get_by_role("button", name="Follow new events").click()
            page.get_by_text(f"Following. {number} new.").wait_for()
    assert page.get_by_role("link", name="invoice.<b>new</b>").count() == 2
    assert page.locator(".events tbody tr").count() == 52
    page.get_by_role("button", name="Follow new events").click()
    assert complaints == []


HOURS_3 = 3 * 3600 * 1000


@pytest.mark.slow
def test_relative_times_are_updated_and_exact_times_can_be_shown(project, seen):
    """With a wrong clock of the browser, on a page that stays open, and when times are copied or printed."""
    page, address, complaints, _ = seen
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.clock.install(time="2001-01-01T00:00:00Z")
    page.goto(f"{address}/events?action=invoice.*")
    time = page.locator(".events tbody time").nth(1)
    exact = time.get_attribute("title")
    shown = f"{exact[:19]}Z"
    assert (time.get_attribute("datetime"), time.text_content()[: len(shown)]) == (exact, shown)
    assert re.fullmatch(r"less than a minute ago|\d+ minutes? ago", time.inner_text())
    page.clock.fast_forward(HOURS_3)
    assert time.inner_text() == "3 hours ago"
    page.get_by_role("button", name="Follow new events").click()
    page.get_by_text("Following. 0 new.").wait_for()
    with project.database.connect() as owner:
        later = NEW_EVENT.replace("now()", "now() + interval '1 day 4 hours'")
        owner.execute(later.replace("invoice.<b>new</b>", "invoice.later"))
        page.get_by_text("Following. 1 new.").wait_for()
    # The browser's clock is three hours ahead now.
    assert page.locator(".events tbody time").first.inner_text() == "in 1 day"
    # Times are exact when they are copied or printed, and while the button is pressed.
    page.locator(".events tbody tr").nth(2).select_text()
    page.keyboard.press("Control+C")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert re.search(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\s+invoice\.", copied), copied
    assert "ago" not in copied
    page.clock.run_for(1)
    assert "ago" in page.locator(".events tbody time").nth(2).inner_text()
    for name, is_exact in (("beforeprint", True), ("afterprint", False)):
        page.evaluate(f"dispatchEvent(new Event('{name}'))")
        assert (page.locator(".events tbody time").nth(2).inner_text()[4] == "-") == is_exact
    page.keyboard.press("t")
    assert page.locator(".events tbody time").nth(2).inner_text()[4] == "-"
    page.reload()
    assert time.inner_text() == f"{time.get_attribute('title')[:19]}Z"
    page.get_by_role("button", name="Exact times", pressed=True).click()
    # The page of one event has both.
    page.goto(f"{address}/events/{project.first}")
    assert re.search(r"^\d{4}-\S+Z.* ago$", page.locator("dd time").first.inner_text())
    assert complaints == []


@pytest.mark.slow
def test_without_scripts_and_in_a_saved_page_times_are_exact(project, link, chromium, tmp_path):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(link)
    address = link.partition("/open/")[0]
    page.goto(f"{address}/events/{project.first}")
    assert page.locator("dd time").first.inner_text().endswith("Z")
    assert not page.get_by_role("button", name="Exact times").is_visible()
    saved = tmp_path / "saved.html"
    script = (HERE / "static/times.js").read_text()
    sheet = (HERE / "static/console.css").read_text()
    saved.write_text(
        f'<html class="relative" data-now="2001-01-01T00:00:00Z"><style>{sheet}</style>'
        '<time datetime="2001-01-01T00:00:00Z"><span class="exact">exact</span> <span class="ago">ago</span>'
        "</time>"
        f"<script>{script}</script>"
    )
    context.close()
    context = chromium.new_context()
    page = context.new_page()
    page.goto(saved.as_uri())
    assert page.locator("time").inner_text() == "exact"
    context.close()


@pytest.mark.slow
def test_dragging_over_the_histogram_selects_a_period(seen):
    page, address, complaints, _ = seen
    page.goto(f"{address}/events?action=invoice.*")
    page.get_by_text("Drag over the bars").wait_for()
    bars = page.locator(".histogram rect")
    box = page.locator(".histogram").bounding_box()
    wanted = [bars.nth(-8).get_attribute("data-since"), bars.nth(-1).get_attribute("data-until")]

    def drag(start, end, *, ends=True):
        page.mouse.move(box["x"] + box["width"] * start, box["y"] + 30)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * end, box["y"] + 30, steps=3)
        if ends:
            page.mouse.up()

    left = float(bars.nth(-8).get_attribute("data-start")) / 600 + 0.001
    drag(0.99, left, ends=False)
    assert page.locator(".chosen").count() == 1
    page.keyboard.press("Escape")
    page.mouse.up()
    assert page.locator(".chosen").count() == 0
    drag(0.999, left)
    page.wait_for_url("**since=*")
    assert [page.locator(f"#{name}").input_value() for name in ("since", "until")] == wanted
    assert page.locator("#action").input_value() == "invoice.*"
    # With the keyboard, the links in the table of the numbers select a period.
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    place = page.evaluate("document.activeElement.href")
    page.keyboard.press("Enter")
    page.wait_for_url(place)
    assert complaints == []


@pytest.mark.slow
def test_a_button_syncs_the_user(project, seen):
    page, address, complaints, asked = seen
    page.goto(f"{address}/users/{project.stale}")
    assert page.locator(".verdict").inner_text() == "Out of sync"
    page.get_by_role("button", name="Sync now").click()
    page.wait_for_url(f"{address}/users/{project.stale}?done=sync")
    assert page.locator(".verdict").inner_text() == "In sync"
    assert complaints == []
    assert {url for url in asked if not url.startswith(f"{address}/")} == set()


@pytest.fixture
def framing(project):
    """The port of a site with the viewer in a frame.

    The viewer is at 127.0.0.1, and allows localhost to frame it.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    keys = ["k" * 43]

    async def frame(_):
        link = console.viewer_link(f"http://127.0.0.1:{port}/activity", tenant="acme", keys=keys)
        return HTMLResponse(f'<title>Site</title><iframe src="{link}" width="700" height="700"></iframe>')

    viewer = console.viewer(
        project.database.dsn(), keys=keys, frame_ancestors=[f"http://localhost:{port}"], metadata=["plan"]
    )
    config = uvicorn.Config(
        Starlette(routes=[Route("/", frame), Mount("/activity", viewer)]), log_level="error", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield port, keys
    server.should_exit = True
    thread.join()


@pytest.mark.slow
def test_axe_finds_no_accessibility_violation_in_the_viewer(project, framing, chromium):
    port, keys = framing
    link = console.viewer_link(f"http://127.0.0.1:{port}/activity", tenant="acme", keys=keys)
    context = chromium.new_context()
    page = context.new_page()
    for path in ("", f"events/{project.own}", "entity?entity=invoice/0", "nothing"):
        assert violations(page, link + path) == set(), path
    context.close()


@pytest.mark.slow
def test_a_browser_shows_the_viewer_in_a_frame_of_an_allowed_origin_only(framing, chromium):
    port, _ = framing
    context = chromium.new_context()
    page = context.new_page()
    complaints, asked = [], []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: asked.append((request.url, request.headers.get("referer", ""))))
    page.goto(f"http://localhost:{port}/")
    shown = page.frame_locator("iframe")
    shown.get_by_label("Actor").fill("acme-ada")
    shown.get_by_role("button", name="Search").click()
    shown.get_by_role("link", name="Older events").click()
    shown.get_by_role("link", name="invoice.sent").last.click()
    shown.get_by_text("acme-plan").wait_for()
    shown.get_by_role("link", name="invoice/").click()
    shown.get_by_text("the oldest first").wait_for()
    assert re.search(r"Z.* ago$", shown.locator("h2 time").first.inner_text())
    assert [each for each in complaints if "favicon" not in each and "404" not in each] == []
    assert {"127.0.0.1", "localhost"} == {url.split("/")[2].partition(":")[0] for url, _ in asked}
    assert [url for url, referer in asked if "/activity/" in referer] == []
    # The same page under another host name is another origin.
    page.goto(f"http://127.0.0.1:{port}/")
    assert any("frame-ancestors" in each for each in complaints)
    context.close()
