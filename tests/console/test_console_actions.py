"""The actions of the console: their effects, their permissions, and protection against forged requests."""

from __future__ import annotations

import html
import re
import shlex
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from audit_settings import with_audit_log
from fixtures_project import clone_installed
from usersync import console
from usersync.audit.feed import number_events
from usersync.console.local import LocalAccess
from usersync.core.admin_actions import account
from usersync.errors import SettingsError
from usersync.events import subscriptions
from usersync.events.models import Subscription
from usersync.testing import GoTrue
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

ACTIONS = ("sync", "retry", "erase")


@pytest.fixture
def database(cluster, monkeypatch, tmp_path):
    monkeypatch.setenv("USERSYNC_SPOOL_DIR", str(tmp_path))
    found = clone_installed(cluster, with_audit_log())
    yield found
    cluster.drop(found)


@pytest.fixture
def users(database):
    """A user without changes, a user with a sync failure, and a deleted user."""
    with GoTrue(database.dsn("supabase_auth_admin")) as auth, database.connect() as owner:
        owner.execute("alter table public.users add constraint no_bad_name check (full_name <> 'bad')")
        well = auth.sign_up_email("ada@example.com", data={"full_name": "Ada"})
        failing = auth.sign_up_email("bob@example.com", data={"full_name": "bad"})
        gone = auth.sign_up_email("gone@example.com")
        owner.execute(
            "insert into public.audit_logs (id, occurred_at, action, outcome, actor_id, actor_type, source, "
            "metadata) values (gen_random_uuid(), now(), 'user.seen', 'succeeded', %s, 'user', 'app', %s)",
            [str(gone), '{"email": "gone@example.com"}'],
        )
        auth.hard_delete(gone)
    return well, failing, gone


def browser(database, allow=lambda _: "eve@example.com", **options):
    app = console.app(database.dsn(), authorize=lambda _: True, allow_actions=allow)
    return TestClient(app, base_url="https://testserver", follow_redirects=False, **options)


def token(page, action):
    form = re.search(rf'action="[^"]*/{action}".*?name="token" value="(\w+)"', page, re.DOTALL)
    return form[1] if form else None


def send(client, user_id, action, **form):
    return client.post(f"/users/{user_id}/{action}", data=form)


def test_sync_and_retry_write_the_row_and_are_recorded(database, users):
    well, failing, _ = users
    client = browser(database)
    with database.connect() as owner:
        owner.execute("update public.users set full_name = 'Other', email = 'x@y.z' where id = %s", [well])
        page = client.get(f"/users/{well}")
        cookie = page.headers["set-cookie"].lower()
        assert all(each in cookie for each in ("httponly", "samesite=strict", "secure"))
        assert f"usersync sync --user {well}" in page.text
        assert token(page.text, "retry") is None  # This user has no sync failure.
        answer = send(client, well, "sync", token=token(page.text, "sync"))
        assert (answer.status_code, answer.headers["location"]) == (303, f"/users/{well}?done=sync")
        row = owner.execute("select email from public.users where id = %s", [well]).fetchone()
        assert row == ("ada@example.com",)
        assert "A sync of this user has run." in client.get(answer.headers["location"]).text

        owner.execute("alter table public.users drop constraint no_bad_name")
        page = client.get(f"/users/{failing}").text
        assert f"usersync retry --user {failing}" in page
        assert send(client, failing, "retry", token=token(page, "retry")).status_code == 303
        assert owner.execute("select count(*) from usersync.sync_failures").fetchone() == (0,)
        recorded = "select actor_id from public.audit_logs where action = 'usersync.failures_retried'"
        assert owner.execute(recorded).fetchall() == [("eve@example.com",)]


def test_erase_requires_the_id_of_a_deleted_user(database, users):
    well, _, gone = users
    client = browser(database)
    # The auth server still has this user.
    page = client.get(f"/users/{well}").text
    assert token(page, "erase") is None
    page = client.get(f"/users/{gone}").text
    given = token(page, "erase")
    for confirmation in ({}, {"confirmation": "yes"}, {"confirmation": str(well)}):
        answer = send(client, gone, "erase", token=given, **confirmation)
        assert answer.status_code == 400
        assert "Nothing was erased" in answer.text
    with database.connect() as owner:
        text = "select metadata::text from public.audit_logs where action = 'user.seen'"
        assert "gone@example.com" in owner.execute(text).fetchone()[0]
        answer = send(client, gone, "erase", token=given, confirmation=f" {gone} ")
        assert answer.status_code == 200
        assert "the personal data of the user was erased" in answer.text
        assert f"usersync erase {gone}" in answer.text
        assert "gone@example.com" not in owner.execute(text).fetchone()[0]
        by = "select actor_id from public.audit_logs where action = 'user.erased'"
        assert owner.execute(by).fetchall() == [("eve@example.com",)]


def test_an_action_requires_a_token_of_a_page_of_the_same_session(database, users):
    well, failing, _ = users
    client, other = browser(database), browser(database)
    page, foreign = client.get(f"/users/{failing}").text, other.get(f"/users/{failing}").text
    given = token(page, "retry")
    assert given != token(foreign, "retry")
    with database.connect() as owner:
        state = "select attempts, last_failed_at from usersync.sync_failures"
        before = owner.execute(state).fetchall()
        refused = [
            send(client, failing, "retry"),
            send(client, failing, "retry", token=""),
            send(client, failing, "retry", token=token(foreign, "retry")),
            send(client, failing, "retry", token=token(page, "sync")),
            send(client, well, "retry", token=given),
            client.post(f"/users/{failing}/retry?token={given}"),
            browser(database).post(f"/users/{failing}/retry", data={"token": given}),
        ]
        refused += [
            client.post(f"/users/{failing}/retry", data={"token": given}, headers={"sec-fetch-site": site})
            for site in ("cross-site", "same-site", "none")
        ]
        assert [each.status_code for each in refused] == [403] * len(refused)
        assert client.get(f"/users/{failing}/retry").status_code == 405
        assert client.post(f"/users/{failing}/retry", content=b"token=" + b"x" * 20_000).status_code == 413
        assert owner.execute(state).fetchall() == before
    assert send(client, failing, "retry", token=given).status_code == 303


async def no_one(_):
    return None


@pytest.mark.slow
def test_actions_are_hidden_and_refused_without_permission(database, users):
    failing = users[1]
    plain = browser(database, allow=None)
    page = plain.get(f"/users/{failing}")
    assert "set-cookie" not in page.headers
    assert "<h2>Actions</h2>" not in page.text
    assert "These pages change nothing." in page.text
    for allow, status in ((None, 404), (no_one, 403), (lambda _: "", 403), (lambda _: True, 403)):
        client = browser(database, allow=allow)
        assert "<h2>Actions</h2>" not in client.get(f"/users/{failing}").text
        allowed = browser(database)
        page = allowed.get(f"/users/{failing}").text
        client.cookies.update(allowed.cookies)
        for action in ACTIONS:
            given = token(page, action) or "x"
            assert send(client, failing, action, token=given).status_code == status
    with pytest.raises(SettingsError, match="allow_actions"):
        browser(database, allow=True)


def test_an_action_is_refused_if_authorize_refuses_the_page(database, users):
    app = console.app(database.dsn(), authorize=lambda _: False, allow_actions=lambda _: "eve")
    answer = TestClient(app).post(f"/users/{users[0]}/sync")
    assert (answer.status_code, answer.text) == (403, "You are not allowed to see the console.")


def test_actions_of_the_local_console_require_its_session_and_host(database, users):
    access = LocalAccess(8900)
    app = console.app(database.dsn(), authorize=access, allow_actions=lambda _: account())

    def client(host="127.0.0.1:8900"):
        return TestClient(app, base_url=f"http://{host}", follow_redirects=False)

    mine = client()
    mine.get(access.url.removeprefix("http://127.0.0.1:8900"))
    given = token(mine.get(f"/users/{users[0]}").text, "sync")
    cookies = dict(mine.cookies)
    assert send(client(), users[0], "sync", token=given).status_code == 403
    rebound = client("evil.example:8900")
    rebound.cookies.update(cookies)
    assert send(rebound, users[0], "sync", token=given).status_code == 421
    assert send(mine, users[0], "sync", token=given).status_code == 303


@pytest.fixture
def crm(database):
    """A subscription with a dead event, and a name that needs quoting in a URL and in a shell."""
    name = "cr m/../<b>"
    with database.connect() as owner:
        run(subscriptions.add(Subscription(name, "handler", ("user.*",))), owner)
        owner.execute(
            "insert into public.audit_logs (id, occurred_at, action, outcome, actor_type, source) "
            "values (gen_random_uuid(), now(), 'user.seen', 'succeeded', 'user', 'app')"
        )
        run(number_events(), owner)
        owner.execute("update usersync.subscription_shards set position = 1")
        owner.execute(
            "insert into usersync.parked_events (subscription, number, event_id, shard, state, attempts, "
            "error) values (%s, 1, gen_random_uuid(), 0, 'dead', 9, 'no')",
            [name],
        )
    return name


@pytest.mark.slow
def test_a_subscription_can_be_retried_paused_resumed_replayed(database, crm):
    client = browser(database)
    path = "/subscriptions?" + urlencode({"name": crm})

    def act(action, **form):
        page = client.get(path).text
        given = {"name": crm, "token": token(page, action)} | form
        return client.post(f"/subscriptions/{action}", data=given)

    with database.connect() as owner:

        def stored():
            return owner.execute(
                "select state, reason, (select min(position) from usersync.subscription_shards), "
                "(select state from usersync.parked_events) from usersync.subscriptions"
            ).fetchone()

        assert stored() == ("active", None, 1, "dead")
        (event_id,) = re.findall(r'name="event" value="([^"]+)"', client.get(path).text)
        assert act("retry", event=event_id).headers["location"].endswith("&done=retried")
        assert stored() == ("active", None, 1, "waiting")
        answer = act("pause", reason="<b>moving")
        assert "The subscription is paused." in client.get(answer.headers["location"]).text
        assert stored()[:2] == ("paused", "<b>moving")
        assert act("resume").status_code == 303
        assert stored()[:2] == ("active", None)
        owner.execute("update usersync.subscriptions set state = 'held', reason = 'a <b>copy'")
        for place in (path, "/subscriptions"):
            assert "is held: a &lt;b&gt;copy" in client.get(place).text
        assert token(client.get(path).text, "pause")
        assert act("resume").status_code == 303
        assert stored()[:2] == ("active", None)
        for wrong in (
            {"since": "1"},
            {"since": "1", "confirmation": "cr"},
            {"since": "soon", "confirmation": crm},
        ):
            assert act("replay", **wrong).status_code == 400
        assert act("replay", since="99", confirmation=crm).status_code == 400
        assert act("pause", reason="a\0b").status_code == 400
        assert act("retry", event="x").status_code == 400
        # An event of a backfill has a number below zero, which is usersync's own.
        owner.execute("update usersync.parked_events set number = -999999999999, state = 'dead'")
        assert "999999999999" not in (page := client.get(path).text)
        assert f"usersync subscriptions retry {shlex.quote(crm)} --event {event_id}" in html.unescape(page)
        assert act("retry", event=event_id).headers["location"].endswith("&done=retried")
        owner.execute("update usersync.parked_events set number = 1")
        assert stored() == ("active", None, 1, "waiting")
        assert act("replay", since="1d", confirmation=crm).headers["location"].endswith("&done=replayed")
        assert stored() == ("active", None, 0, None)
        acts = owner.execute(
            "select action, actor_id from public.audit_logs where action like 'usersync.%' order by seq"
        ).fetchall()
    names = [name.partition("_")[2] for name, _ in acts]
    assert names == ["retried", "paused", "resumed", "resumed", "retried", "replayed"]
    assert {by for _, by in acts} == {"eve@example.com"}
    # A token is valid for one action on one subscription. The page does not show messages from the URL.
    given = {"name": crm, "token": token(client.get(path).text, "pause")}
    assert client.post("/subscriptions/resume", data=given).status_code == 403
    assert client.post("/subscriptions/pause", data=given | {"name": "other"}).status_code == 403
    assert "evil" not in client.get(f"{path}&done=evil").text
    assert browser(database, allow=lambda _: None).post("/subscriptions/pause", data=given).status_code == 403
