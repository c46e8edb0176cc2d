"""The contents of every page of the console. Hostile values are shown as text."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import pytest
from hostile_values import HTML, SUBSCRIPTION
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool
from starlette.testclient import TestClient

from usersync import AuditLog, console
from usersync.transports import psycopg as psycopg_transport

pytestmark = pytest.mark.newest_server


class Page(HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in {"td", "th", "dd"}:
            self.text += " "

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def addresses(self):
        names = ("href", "src", "action", "srcset", "data", "poster", "formaction")
        return [attributes[name] for _, attributes in self.elements for name in names if name in attributes]

    @property
    def words(self):
        return " ".join(self.text.split())


def shown(browser, path, status=200):
    answer = browser.get(path)
    assert answer.status_code == status, answer.text
    return Page(answer.text)


def check(page, answer, path):
    """Check the properties that every page must have."""
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert [each for each in page.addresses if not re.match(r"/(?!/)|#", each)] == [], path
    assert {"img", "style", "b", "iframe"} & {tag for tag, _ in page.elements} == set(), path
    scripts = [each["src"] for each in page.all("script")]
    assert scripts == ["/static/times.js", "/static/console.js"], path
    names = {name for _, attributes in page.elements for name in attributes}
    assert {name for name in names if name.startswith("on") or name == "style"} == set(), path
    # A form field keeps the hostile value, because the form sends it again.
    apart = [str(value) for _, given in page.elements for name, value in given.items() if name != "value"]
    assert [each for each in page.text + "".join(apart) if not each.isprintable() and each != "\n"] == [], (
        path
    )
    assert all("scope" in each for each in page.all("th")), path
    assert len(page.all("h1")) == 1
    labels = {each["for"] for each in page.all("label")}
    assert {each["id"] for tag in ("input", "select") for each in page.all(tag)} == labels
    assert len(answer.content) < 400_000, path
    assert "The same in a terminal: usersync " in page.words, path


@pytest.mark.slow
def test_every_page_that_a_link_reaches_is_valid_and_escapes_values(project, browser):
    waiting = [
        "/",
        f"/users/{project.stale}",
        f"/users/{project.failing}",
        "/doctor?run=1",
        "/users?q=nobody",
    ]
    waiting += [f"/events/{each}" for each in (project.hostile, project.huge, project.wide)]
    seen = set()
    while waiting and len(seen) < 60:
        path = waiting.pop(0)
        if path in seen or "/static/" in path:
            continue
        seen.add(path)
        answer = browser.get(path)
        assert answer.status_code == 200, (path, answer.text)
        if path.endswith("/json") or "/export?" in path:
            continue
        page = Page(answer.text)
        check(page, answer, path)
        links = [urljoin(path, each["href"]) for each in page.all("a") if not each["href"].startswith("#")]
        # Follow only the first links to events of each page.
        waiting += [each for each in links if not each.startswith("/events/")] + links[:14]
    for name in ("users", "events", "entity", "failures", "rejected", "subscriptions", "tracked", "doctor"):
        assert f"/{name}" in seen
    assert any(path.startswith("/subscriptions?name=..") for path in seen)


def test_the_overview_shows_the_last_comparison_without_starting_one(project, browser):
    page = shown(browser, "/")
    assert "Out of sync: 1 user has a failure. Last comparison: finished" in page.words
    assert "compared 3 users that the run compared" in page.words
    # One row could not be written. Another row changed after the comparison, so it is not counted.
    assert "stale 1 a mapped value differed" in page.words
    assert "degraded 1" in page.words
    assert "23514 check_violation (1)" in page.words
    assert "1 rejected" in page.words
    with project.database.connect() as owner:
        (runs,) = owner.execute("select count(distinct run_id) from usersync.sync_runs").fetchone()
    assert runs == 1


def test_the_page_of_a_user_shows_the_row_failures_and_events(project, browser):
    page = shown(browser, "/users?q=STALE@example.com")
    assert f"User {project.stale}" in page.words
    assert f"usersync why {project.stale}" in page.words
    assert "full_name Right Wrong" in page.words
    assert re.search(r"Signed up \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", page.words)
    assert "email stale@example.com old@x.y differs" in page.words
    assert "The row would be written completely." in page.words
    page = shown(browser, f"/users/{project.failing}")
    assert "23514 check_violation" in page.words
    assert "no_bad_name" in page.words
    page = shown(browser, f"/users/{project.well}")
    assert "In sync" in page.words
    assert page.words.count("order.paid") == 2  # events by the user, and about the user
    assert (
        "No user has this e-mail address, phone number or name"
        in shown(browser, "/users?q=nobody@example.com").words
    )
    assert "US302" not in shown(browser, "/users/00000000-0000-0000-0000-000000000001", 404).words
    shown(browser, "/users/%00", 400)


def test_users_are_found_by_name(project, browser):
    page = shown(browser, "/users?q=SCRIPT")
    assert "All rows of the table were read: a name matches if it contains the text." in page.words
    assert HTML in page.text
    assert f"/users/{project.well}" in page.addresses
    assert "usersync why SCRIPT" in page.words
    assert "No user has" in shown(browser, "/users?q=a").words
    shown(browser, "/users?q=%00")


FILTERS = [
    ("action=order.*", "order.counted", "huge"),
    ("entity=order", "order.counted", "script"),
    ("entity=order/7&action=order.counted", "order/7", "order/8"),
    ("outcome=denied", "denied", "order.counted"),
    ("request_id=r-1", "order.paid", "huge"),
    ("actor_id={well}", "order.paid", "order.counted"),
    ("user_id={well}&since=2h", "order.paid", "huge"),
    ("since=2020-01-01&until=2020-02-01", "No event matches all of these filters", "order.counted"),
    ("text=alert", "denied", "order.counted"),
]


@pytest.mark.parametrize(("query", "there", "absent"), FILTERS)
def test_a_filter_shows_matching_events_only(project, browser, query, there, absent):
    page = shown(browser, f"/events?{query.format(well=project.well)}")
    table = page.words.partition("Search")[2]
    assert there in table
    assert absent not in table


def test_the_page_shows_the_command_with_the_same_filters(browser):
    page = shown(browser, "/events?entity=order%2F7&action=order.*&since=2h")
    assert "usersync audit search --action 'order.*' --entity order/7 --since 2h" in page.words


@pytest.mark.parametrize("query", ["since=yesterday", "action=*x", "user_id=1", "after=nonsense", "entity=/"])
def test_an_invalid_filter_is_answered_with_a_reason(browser, query):
    page = shown(browser, f"/events?{query}", 400)
    assert "usersync explain US106" in page.words


def test_the_next_links_reach_each_event_once(browser):
    path, found = "/events?action=order.*", []
    while path:
        page = shown(browser, path)
        found += [
            each["href"] for each in page.all("a") if re.fullmatch("/events/[0-9a-f-]{36}", each["href"])
        ]
        path = next((each["href"] for each in page.all("a") if each.get("rel") == "next"), None)
    assert len(found) == len(set(found)) == 121


def test_the_page_of_an_event_shows_its_fields_and_its_request(project, browser):
    page = shown(browser, f"/events/{project.first}")
    assert f"usersync audit show {project.first}" in page.words
    assert page.words.partition("Other events of the request")[2].count("order.counted") == 2
    assert '"action": "order.paid"' in page.text
    (event,) = browser.get(f"/events/{project.first}/json").json()
    assert (event["action"], event["actor_id"]) == ("order.paid", str(project.well))
    shown(browser, "/events/00000000-0000-0000-0000-000000000001", 404)
    shown(browser, "/events/nonsense", 400)


def test_hostile_values_are_shown_as_text(project, browser):
    page = shown(browser, f"/events/{project.hostile}")
    assert HTML in page.text
    assert "safe\\u202egnp.exe\\u2066\\u001b[31m\\u200b" in page.text
    assert "They were not made." in page.words
    timeline = next(each["href"] for each in page.all("a") if "/entity?" in each["href"])
    assert HTML in shown(browser, timeline).text
    page = shown(browser, f"/users/{project.well}")
    assert HTML in page.text
    page = shown(browser, f"/events?text=%3Cscript%3E&action={'%3Cb%3E'}")
    assert page.all("input")[0]["value"] == "<b>"


def test_large_values_are_truncated_with_a_note(project, browser):
    page = shown(browser, f"/events/{project.huge}")
    assert "(1,048,578 characters, 500 are shown)" in page.words
    (event,) = browser.get(f"/events/{project.huge}/json").json()
    assert len(event["metadata"]["text"]) == 1 << 20
    page = shown(browser, f"/events/{project.wide}")
    assert "800 more fields are not shown" in page.words
    assert "and 997 more" in shown(browser, "/events?action=wide").words


def test_the_page_of_an_entity_shows_its_changes_in_order(browser):
    page = shown(browser, "/entity?entity=products/7")
    assert page.words.index('"Bolt"') < page.words.index('"Nut"')
    assert "usersync audit history products/7" in page.words
    assert "write type and id" in shown(browser, "/entity?entity=products", 400).words.lower()
    assert "The audit log has no event of this entity" in shown(browser, "/entity?entity=products/8").words


def test_the_page_of_an_entity_shows_its_state_at_a_time(project, browser):
    page = shown(browser, "/entity?entity=products/7")
    inserted, updated = (each["href"] for each in page.all("a") if "at=" in each["href"])
    page = shown(browser, inserted)
    assert 'name "Bolt" 20' in page.words
    assert "Existed: created at 20" in page.words
    time = parse_qs(urlsplit(inserted).query)["at"][0]
    assert f"usersync audit history products/7 --at {time}" in page.words
    # An incomplete time in the URL is completed, so that the URL shows the same page later.
    later = browser.get(f"/entity?entity=products/7&from={time}")
    (now,) = parse_qs(later.url.query.decode())["at"]
    page = Page(later.text)
    assert 'name "Bolt" "Nut"' in page.words
    assert f"usersync audit history products/7 --from {time} --at {now}" in page.words
    assert 'name "Nut" 20' in shown(browser, updated).words
    page = shown(browser, "/entity?entity=products/7&at=2020-01-01")
    assert "Did not exist: created at 20" in page.words
    page = shown(browser, "/entity?entity=products/8&at=1d")
    assert "The audit log has no event of this entity." in page.words
    hostile = urlencode({"entity": f"hostile/{HTML}", "at": "2099-01-01T00:00:00Z"})
    for path in (f"/entity?{hostile}", f"/entity?{hostile}&from=2020-01-01T00:00:00Z"):
        answer = browser.get(path)
        check(Page(answer.text), answer, path)
        assert Page(answer.text).text.count(HTML) >= 3
    assert "\\u202e" in shown(browser, path).text
    for query in ("at=soon", "at=1h&from=1h", "from=2099-01-01", "at=9999-12-31T23:59:59.999999%2B99"):
        shown(browser, f"/entity?entity=products/7&{query}", 400)
    shown(browser, "/entity?entity=products/7&at=9999-12-31T23:59:59.999999")
    shown(browser, "/entity?entity=products&at=1h", 400)


def test_the_pages_of_subscriptions_show_events_and_attempts(project, browser):
    for path in ("/subscriptions", "/"):
        page = shown(browser, path)
        # The lag also counts the events of other tests.
        assert re.search(r"quiet handler active [1-9]\d* 0 0 0 none order\.\*, <script>", page.words)
        assert re.search(r" handler active [1-9]\d* 0 2 1 none order\.\*", page.words)
        assert "../a b/<script>" in page.text
    page = shown(browser, f"/subscriptions?{urlencode({'name': SUBSCRIPTION})}")
    assert "usersync subscriptions show '../a b/<script>" in page.words
    dead, waiting = page.words.split("Dead events")[1].split("Waiting events")
    assert "Number 1: " in dead
    assert HTML in dead
    assert "Number 2: " in waiting
    assert "0: it waits for an earlier event of its entity" in waiting
    assert waiting.count("failed") >= 49
    assert "60 0.250 succeeded safe\\u202e" in waiting
    older = next(each["href"] for each in page.all("a") if each.get("rel") == "next")
    assert shown(browser, older).words.count(" 0.250 failed ") == 10
    one = next(each["href"] for each in page.all("a") if "event=" in each["href"])
    assert f"usersync subscriptions attempts '../a b/{HTML}" in shown(browser, one).words
    page = shown(browser, "/subscriptions?name=quiet")
    assert page.words.count("None.") == 3
    assert [each for each in page.all("button") if each["type"] == "submit"] == []
    shown(browser, "/subscriptions?name=unknown", 404)
    shown(browser, "/subscriptions?name=%00", 404)
    shown(browser, "/subscriptions?name=quiet&event=1", 400)
    shown(browser, "/subscriptions?name=quiet&before=x", 400)


RECORD_AND_DIE = """
import os, sys
from usersync import AuditLog
log = AuditLog.recording_only(spool_dir=sys.argv[1], project="a<b>")
log.record("shelf.counted")
log.record("shelf.counted")
os._exit(9)
"""


def test_the_overview_shows_events_in_spools_of_dead_processes(browser, monkeypatch, tmp_path):
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(tmp_path))
    assert "No dead process of this machine has undelivered events." in shown(browser, "/").words
    subprocess.run([sys.executable, "-c", RECORD_AND_DIE, tmp_path], check=False)
    with AuditLog.recording_only(spool_dir=tmp_path, project="alive") as log:
        log.record("shelf.counted")
        page = shown(browser, "/")
    left = page.words.partition("Spools of this machine")[2].partition("To see and deliver")[0]
    assert re.search(r" a-b-\S* 2 20\S+Z process \d+ is dead; events for project a<b>$", left.strip())
    assert "alive" not in left
    assert "usersync audit spool --drain" in page.words


def test_rejected_events_and_tracked_tables_are_listed(browser):
    page = shown(browser, "/rejected")
    assert "22P02 invalid_text_representation" in page.words
    assert "usersync audit rejects --retry" in page.words
    page = shown(browser, "/tracked")
    assert "public.products current id id, name" in page.words


def test_the_doctor_page_runs_checks_only_on_request(browser):
    assert "The checks have not run." in shown(browser, "/doctor").words
    page = shown(browser, "/doctor?run=1")
    assert "D018" in page.words
    assert page.words.count("no worker serves ") == 1  # for all subscriptions
    assert "usersync subscriptions dead '../a b/<script>" in page.words
    assert "usersync retry" in page.words


def test_an_unavailable_database_is_an_error_page(project):
    gone = console.app("postgresql://nobody@127.0.0.1:1/nothing", authorize=lambda _: True)
    with TestClient(gone) as browser:
        for path in ("/", "/events", f"/users/{project.well}", "/tracked"):
            page = shown(browser, path, 503)
            assert "The database is unavailable" in page.words
            assert "usersync explain US201" in page.words


def test_a_search_that_takes_too_long_is_cancelled(project, browser, monkeypatch):
    monkeypatch.setattr("usersync.console.pages._SEARCH_LIMIT_S", 0.2)
    with project.database.connect() as owner, owner.transaction():
        owner.execute("lock table public.audit_logs in access exclusive mode")
        page = shown(browser, "/events?text=anything", 503)
    assert "the search took more than 0.2 seconds and was cancelled Choose a shorter period" in page.words
    assert page.all("input")[-1]["value"] == "anything"


def test_a_role_with_some_privileges_sees_the_pages_that_they_allow(project):
    role = f"half_{project.database.name}"
    with project.database.connect("supabase_admin") as admin:
        admin.execute(
            f"create role {role} login password 'half'; grant postgres to {role} with inherit false"
        )
        admin.execute(f"grant usage on schema usersync to {role}")
        admin.execute(f"grant execute on all functions in schema usersync, public to {role}")
        admin.execute(f"grant select on public.audit_logs, usersync.settings to {role}")
        try:
            source = make_conninfo(project.database.dsn(), user=role, password="half")  # noqa: S106
            with TestClient(console.app(source, authorize=lambda _: True)) as browser:
                assert "order.paid" in shown(browser, "/events?action=order.paid").words
                assert "order.paid" in shown(browser, f"/events/{project.first}").words
                page = shown(browser, "/")
                assert "Out of sync: 1 user has a failure" in page.words
                assert page.words.count("usersync explain US202") == 2
                assert "The newest events of the audit log" in page.words
                assert "degraded" in shown(browser, "/failures").words
                for path in ("/rejected", "/subscriptions", f"/users/{project.well}", "/users?q=a@b"):
                    page = shown(browser, path, 503)
                    assert "permission denied for" in page.words, path
                    assert "usersync explain US202" in page.words
        finally:
            admin.execute(f"drop owned by {role}; drop role {role}")


def test_a_missing_privilege_is_an_error_page(project):
    application = console.app(project.database.dsn("supabase_auth_admin"), authorize=lambda _: True)
    with TestClient(application) as browser:
        for path in ("/", "/events", "/rejected"):
            answer = browser.get(path)
            assert answer.status_code == 503
            assert "usersync explain US202" in Page(answer.text).words


def test_with_a_pool_all_pages_work_except_doctor(project):
    with (
        ConnectionPool(project.database.dsn(), min_size=1, max_size=2) as pool,
        TestClient(console.app(pool, authorize=lambda _: True)) as browser,
    ):
        assert "order.paid" in shown(browser, "/events?action=order.paid").words
        assert "usersync doctor" in shown(browser, "/doctor?run=1", 503).words


def test_the_deletion_page_shows_the_effects_of_deleting_a_user(project, browser):
    page = shown(browser, f"/users/{project.well}/deletion")
    assert "Can be deleted" in page.words
    assert f"usersync delete-plan {project.well}" in page.words
    assert "auth.users the row is deleted" in page.words
    assert "public.users the row" in page.words
    assert "auth.identities 1 deleted" in page.words
    assert "Linked events 1." in page.words
    shown(browser, "/users/00000000-0000-0000-0000-000000000001/deletion", 404)


def test_charts_show_counts_or_name_the_missing_index(project, browser):
    page = shown(browser, "/")
    assert "the auth server's table has no index on created_at" in page.words
    today = datetime.now(UTC).date()
    with project.database.connect() as owner:
        (number,) = owner.execute("select count(*) from public.audit_logs").fetchone()
    assert f"{today}: {number}" in page.words
    assert f"{today} {number}" in page.words
    days = [each["href"] for each in page.all("a") if "since=" in each["href"]]
    assert len(days) == 30
    assert days[0] == f"/events?since={today}&until={today + timedelta(days=1)}"
    assert "order.paid" in shown(browser, f"{days[0]}&action=order.paid").words
    with project.database.connect("supabase_auth_admin") as auth:
        auth.execute("create index signed_up on auth.users (created_at)")
        page = shown(browser, "/")
        assert "no index on created_at" not in page.words
        assert f"{today} 3" in page.words.partition("Sign-ups by day")[2]
        auth.execute("drop index auth.signed_up")


def test_a_histogram_counts_the_events_of_the_filters(project, browser, monkeypatch):
    page = shown(browser, "/events?action=order.*")
    (chart,) = page.all("svg")
    assert "Events by time" in chart["aria-label"]
    assert sum(map(int, re.findall(r"Z: (\d+)", page.text))) == 121
    # The link of a bar leads to the events of its period, with shorter bars.
    links = [each["href"] for each in page.all("a") if "until=" in each["href"]]
    assert 50 < len(links) <= 60
    page = shown(browser, links[0])
    bars = [each for each in page.all("rect") if float(each["height"]) > 0]
    given = parse_qs(urlsplit(links[0]).query)
    assert given["since"][0] <= bars[0]["data-since"] < bars[-1]["data-until"] <= given["until"][0]
    assert "order.counted" in page.words
    assert "The highest bar is 0." in shown(browser, "/events?action=none").words
    for query in (
        "since=0001-01-01",
        "until=0001-01-03",
        "since=0001-01-01&until=9999-12-31T23:59:59.999999",
    ):
        assert len(shown(browser, f"/events?{query}").all("rect")) <= 60, query
    assert shown(browser, "/events?since=2099-01-01").all("svg") == []
    rest = next(each["href"] for each in page.all("a") if each.get("rel") == "next")
    assert shown(browser, rest).all("svg") == []
    monkeypatch.setattr("usersync.console.pages._MOST_A_BAR", 50)
    assert "The highest bar is 50 or more." in shown(browser, "/events?action=order.*").words
    monkeypatch.setattr("usersync.console.pages._HISTOGRAM_LIMIT_S", 0)
    page = shown(browser, "/events?action=order.*")
    assert "Incomplete: counting stopped after 0 seconds, so all bars are missing." in page.words
    assert "order.counted" in page.words


def test_an_export_has_every_event_of_the_search(project, browser, monkeypatch):
    monkeypatch.setattr("usersync.console.pages._EXPORT_PAGE", 50)
    page = shown(browser, "/events?action=order.*&outcome=succeeded")
    links = [each["href"] for each in page.all("a") if "/export?" in each["href"]]
    assert [parse_qs(urlsplit(each).query)["format"] for each in links] == [["csv"], ["jsonl"]]
    table = browser.get(links[0])
    assert table.headers["content-disposition"] == 'attachment; filename="events.csv"'
    rows = list(csv.DictReader(table.text.splitlines()))
    events = [json.loads(line) for line in browser.get(links[1]).text.splitlines()]
    assert len(events) == 121
    assert {each["id"] for each in rows} == {each["id"] for each in events}
    # No cell of the CSV is a formula for a spreadsheet.
    with project.database.connect() as owner:
        owner.execute(
            "insert into public.audit_logs (id, occurred_at, action, outcome, actor_type, actor_id, source) "
            "values (gen_random_uuid(), now(), 'formula', 'succeeded', 'user', '=cmd()', 'app')"
        )
    assert ",'=cmd()," in browser.get("/events/export?format=csv&action=formula").text
    monkeypatch.setattr("usersync.console.pages._MOST_EXPORTED", 60)
    assert len(browser.get(links[1]).text.splitlines()) == 60
    for query in ("format=xml", "", "format=csv&since=yesterday"):
        shown(browser, f"/events/export?{query}", 400)
    assert browser.get("/events/export?format=csv&action=none").text.count("\r\n") == 1


def test_a_page_opens_at_most_one_connection(project, monkeypatch):
    opened = []
    connect = psycopg_transport.connect
    monkeypatch.setattr(psycopg_transport, "connect", lambda *given: opened.append(1) or connect(*given))
    with TestClient(console.app(project.database.dsn(), authorize=lambda _: True)) as browser:
        for number, path in enumerate(("/", f"/users/{project.well}", "/events"), 1):
            shown(browser, path)
            assert len(opened) == number
