"""The viewer for customers shows one tenant's events only, also with a manipulated URL."""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from urllib.parse import urljoin

import jwt
import pytest
from psycopg_pool import ConnectionPool
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from usersync import console
from usersync.audit.models import EventFilter, EventPosition, Search
from usersync.errors import SettingsError

pytestmark = pytest.mark.newest_server

UNREACHABLE = "postgresql://nobody@127.0.0.1:1/nothing"
KEY, NEW_KEY, OTHER_KEY = (letter * 64 for letter in "abc")
MOUNT_URL = "http://testserver/activity"
#: Text that no page of the tenant acme may contain: values of the other tenant, and hidden fields.
HIDDEN = re.compile("globex|unseen|shared-request|order\\.(paid|counted)|supabase")


def viewer(source, **options):
    return Starlette(routes=[Mount("/activity", console.viewer(source, **{"keys": [KEY]} | options))])


@pytest.fixture
def customer(project):
    """A browser client, and the path of the link of the tenant acme."""
    with TestClient(viewer(project.database.dsn(), metadata=["plan"])) as browser:
        yield browser


def link(tenant="acme", **options):
    found = console.viewer_link(MOUNT_URL, tenant=tenant, **{"keys": [KEY]} | options)
    return found.removeprefix("http://testserver")


def get(browser, path, status=200):
    answer = browser.get(path)
    assert answer.status_code == status, (path, answer.text)
    # The form repeats the customer's input.
    assert HIDDEN.search(re.sub('<input[^>]*>|href="[^"]*"', "", answer.text)) is None, path
    return answer.text


@pytest.mark.slow
def test_all_pages_behind_a_link_show_only_events_of_its_tenant(project, customer):
    home, seen, events = link(), set(), set()
    waiting = [home]
    while waiting and len(seen) < 90:
        path = waiting.pop(0)
        if path in seen or "/static/" in path or path.endswith("theme.css"):
            continue
        seen.add(path)
        page = get(customer, path)
        found = [urljoin(path, each.replace("&amp;", "&")) for each in re.findall(r'href="([^"#]+)"', page)]
        assert all(each.startswith((home, "/activity/static/", "/activity/theme.css")) for each in found)
        events |= {each.rpartition("/")[2] for each in found if re.search(r"/events/[0-9a-f-]{36}$", each)}
        waiting += found
    assert len(events) == 60
    assert str(project.own) in events
    assert any("/entity?" in each for each in seen)
    page = get(customer, f"{home}events/{project.own}")
    assert "acme-plan" in page
    (document,) = customer.get(f"{home}events/{project.own}/json").json()
    assert document["metadata"] == {"plan": "acme-plan"}
    assert {"request_id", "user_id", "user_agent", "db_role", "source"}.isdisjoint(document)


QUERIES = [
    "tenant_id=globex", "tenant=globex", "actor_id=globex-bob", "on_behalf_of=globex-eve", "outcome=denied",
    "entity=order", "entity=order/7", "action=order.*", "action=*&tenant_id=globex",
    "since=2000-01-01&until=2100-01-01&tenant_id=globex",
    "actor_id='+or+true+--", "actor_id=%25", "action=%25*", "entity=invoice/0'+or+tenant_id='globex",
]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_no_filter_shows_events_of_another_tenant(customer, query):
    for path in ("", "events"):
        page = get(customer, f"{link()}{path}?{query}")
        # Unknown parameters have no effect.
        if query.startswith(("tenant", "action=*", "since")):
            assert page.count("acme-ada") == 50
        else:
            assert "No event matches all of these filters" in page


@pytest.mark.parametrize(
    "query", ["text=unseen-note", "request_id=shared-request", "user_id={well}", "id={foreign}"]
)
def test_filters_on_hidden_fields_are_ignored(project, customer, query):
    """With such a filter, the number of events would reveal the hidden value."""
    query = query.format(well=project.well, foreign=project.foreign)
    assert get(customer, f"{link()}events?{query}").count("acme-ada") == 50
    assert get(customer, f"{link()}events?{query}x").count("acme-ada") == 50


def test_the_page_of_an_entity_of_two_tenants_shows_events_of_one(customer):
    assert get(customer, f"{link()}entity?entity=invoice/0").count("acme-ada") == 20
    assert "There are no events of this entity." in get(customer, f"{link()}entity?entity=order/7")
    get(customer, f"{link()}entity?entity=invoice", 400)
    get(customer, f"{link()}entity", 400)


def test_an_event_of_another_tenant_is_answered_with_404(project, customer):
    unknown = get(customer, f"{link()}events/00000000-0000-0000-0000-000000000001", 404)
    for event_id in (project.foreign, project.first, str(project.foreign).upper()):
        for path in (f"{link()}events/{event_id}", f"{link()}events/{event_id}/json"):
            page = get(customer, path, 404)
            token = re.compile(r'/activity/[\w.-]+/|data-now="[^"]*"')
            assert token.sub("", page) == token.sub("", unknown)
    assert "globex-new" in customer.get(f"{link('globex')}events/{project.foreign}").text
    get(customer, f"{link()}events/nonsense", 400)


def test_a_cursor_of_another_tenant_shows_no_events_of_that_tenant(project, customer):
    """Tries the cursor itself, and a cursor with its position and a valid check sum for this search."""
    page = customer.get(f"{link('globex')}events").text
    assert page.count("globex-bob") == 3
    theirs = Search(EventFilter(tenant_id="globex"))
    with project.database.connect() as owner:
        at = "select occurred_at, id::text from public.audit_logs where id = %s"
        position = EventPosition(*owner.execute(at, [project.foreign]).fetchone())
    get(customer, f"{link()}events?after={theirs.cursor(position)}", 400)
    get(customer, f"{link()}entity?entity=invoice/0&after={theirs.cursor(position)}", 400)
    forged = Search(EventFilter(tenant_id="acme")).cursor(position)
    assert "globex" not in get(customer, f"{link()}events?after={forged}")
    get(customer, f"{link()}events?after=nonsense", 400)
    own = re.search(r"after=([\w-]+)", get(customer, f"{link()}events"))[1]
    assert get(customer, f"{link()}events?after={own}").count("acme-ada") == 10


def changed(token, place, tenant):
    """A token with another tenant in its claims, and the old signature."""
    parts = token.split(".")
    text = urlsafe_b64decode(parts[place] + "==").replace(b"acme", tenant)
    parts[place] = urlsafe_b64encode(text).decode().rstrip("=")
    return ".".join(parts)


def forged_links():
    token = link().split("/")[2]
    soon = datetime.now(UTC) + timedelta(minutes=5)
    claims = {"tenant": "globex", "aud": "usersync:viewer", "exp": soon}
    yield "changed tenant", changed(token, 1, b"globex")
    yield "no signature", token.rpartition(".")[0] + "."
    yield (
        "another signature",
        token.rpartition(".")[0] + "." + link("globex").split("/")[2].rpartition(".")[2],
    )
    yield "another key", jwt.encode(claims, OTHER_KEY, "HS256")
    yield "algorithm none", jwt.encode(claims, None, "none")
    yield "another algorithm", jwt.encode(claims, KEY, "HS384")
    yield "expired", jwt.encode(claims | {"exp": datetime.now(UTC) - timedelta(seconds=1)}, KEY, "HS256")
    for name in claims:
        yield f"without {name}", jwt.encode({k: claims[k] for k in claims if k != name}, KEY, "HS256")
    yield "a token for something else", jwt.encode(claims | {"aud": "authenticated"}, KEY, "HS256")
    yield "empty tenant", jwt.encode(claims | {"tenant": ""}, KEY, "HS256")
    yield "several tenants", jwt.encode(claims | {"tenant": ["globex", "acme"]}, KEY, "HS256")
    yield "null byte", jwt.encode(claims | {"tenant": "acme\0"}, KEY, "HS256")
    yield "nonsense", "nonsense"
    yield "the check sum of the key", hashlib.sha256(KEY.encode()).hexdigest()


@pytest.mark.slow
def test_a_forged_or_expired_link_is_refused(project, customer):
    pages = (
        "",
        "events",
        "entity?entity=invoice/0",
        f"events/{project.foreign}",
        f"events/{project.own}/json",
    )
    said = set()
    for name, token in forged_links():
        for page in pages:
            text = get(customer, f"/activity/{token}/{page}", 403)
            assert "acme" not in text, name
            said.add(re.sub('data-now="[^"]*"', "", text))
    assert len(said) == 1
    get(customer, "/activity/", 404)
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert customer.request(method, link()).status_code == 405


def test_links_of_an_old_key_work_until_the_key_is_removed(project):
    """The first key signs new links. Links of the other keys are valid until the key is removed."""
    old, new = link(keys=[KEY]), link(keys=[NEW_KEY, KEY])
    for keys, statuses in (([KEY], (200, 403)), ([NEW_KEY, KEY], (200, 200)), ([NEW_KEY], (403, 200))):
        browser = TestClient(viewer(project.database.dsn(), keys=keys))
        assert tuple(browser.get(each).status_code for each in (old, new)) == statuses


def test_only_the_configured_origins_may_frame_the_viewer(project):
    for origins, policy in (([], "'none'"), (["https://app.example.com", "http://localhost:3000"], None)):
        browser = TestClient(viewer(project.database.dsn(), frame_ancestors=origins))
        for path in (link(), "/activity/nonsense/", "/activity/static/console.css"):
            answer = browser.get(path)
            allowed = policy or "https://app.example.com http://localhost:3000"
            assert f"frame-ancestors {allowed}" in answer.headers["content-security-policy"]
            assert answer.headers.get("x-frame-options") == ("DENY" if policy else None)
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cache-control"] == "no-store"


def test_the_theme_sets_css_variables(project):
    browser = TestClient(
        viewer(UNREACHABLE, theme={"link": "light-dark(#a0f, #fd0)", "font": '"Inter", serif'})
    )
    assert browser.get("/activity/theme.css").text == (
        ':root { --link: light-dark(#a0f, #fd0); --font: "Inter", serif; }\n'
    )


INVALID = [
    {"keys": []}, {"keys": KEY}, {"keys": ["short"]}, {"keys": None}, {"frame_ancestors": "https://a.example"},
    {"frame_ancestors": ["https://a.example; script-src *"]}, {"frame_ancestors": ["*"]},
    {"metadata": "plan"}, {"theme": {"colour": "red"}}, {"theme": {"link": "red; } body { display: none"}},
    {"theme": {"link": "url(https://evil.example)"}},
]  # fmt: skip


@pytest.mark.parametrize("options", INVALID)
def test_invalid_arguments_are_refused(options):
    with pytest.raises(SettingsError):
        viewer(UNREACHABLE, **options)
    with pytest.raises(SettingsError, match="connection string"):
        viewer(object())


@pytest.mark.parametrize(
    "options",
    [
        {"tenant": ""}, {"tenant": None}, {"tenant": "a\0"}, {"tenant": ["acme"]}, {"keys": ["short"]},
        {"expires": timedelta(days=2)}, {"expires": timedelta()}, {"expires": 900},
    ],
)  # fmt: skip
def test_invalid_links_are_refused(options):
    with pytest.raises(SettingsError):
        link(**options)


def test_an_error_page_reveals_nothing_about_the_database(project, caplog):
    for source in (UNREACHABLE, project.database.dsn("supabase_auth_admin")):
        page = get(TestClient(viewer(source)), link(), 503)
        assert "The events are not available at the moment." in page
        assert "a page of the viewer failed" in caplog.text
        caplog.clear()


def test_a_slow_search_is_cancelled(project, monkeypatch):
    monkeypatch.setattr("usersync.console.customer_pages._LIMIT_S", 0.05)
    with project.database.connect() as blocker:
        blocker.execute("begin")
        blocker.execute("lock table public.audit_logs in access exclusive mode")
        page = get(TestClient(viewer(project.database.dsn())), link(), 503)
    assert "Choose a shorter time." in page


def test_the_viewer_returns_connections_to_the_pool_unchanged(project):
    with ConnectionPool(project.database.dsn(), min_size=1, max_size=1) as pool:
        state = "select current_setting('statement_timeout'), current_setting('transaction_read_only')"
        with pool.connection() as connection:
            before = connection.execute(state).fetchone()
        browser = TestClient(viewer(pool))
        assert get(browser, link()).count("acme-ada") == 50
        with pool.connection() as connection:
            assert connection.execute(state).fetchone() == before
