"""The console on a standby, which accepts no writes, and during an outage of the database."""

from __future__ import annotations

import psycopg
import pytest
from starlette.testclient import TestClient

from fixtures_replication import has_replayed
from proxy import Proxy
from usersync import console
from usersync.testing import GoTrue
from waiting import until

pytestmark = [pytest.mark.newest_server, pytest.mark.slow]

PAGES = (
    "/",
    "/users",
    "/events",
    "/entity?entity=order/1",
    "/failures",
    "/rejected",
    "/subscriptions",
    "/tracked",
)
EVENT = """
    insert into public.audit_logs (
        id, occurred_at, action, outcome, actor_type, source, entity_type, entity_id, changes
    ) values (
        gen_random_uuid(), now(), 'order.paid', 'succeeded', 'user', 'app', 'order', '1', '{"paid": [0, 1]}'
    )
"""


def test_a_standby_shows_every_page_and_an_outage_is_answered_with_503(pair, exit_stack):
    direct = pair.dsn.replace(f":{pair.front.port}/", f":{pair.primary.port}/")
    with (
        GoTrue(direct.replace("postgres:", "supabase_auth_admin:", 1)) as auth,
        psycopg.connect(direct, autocommit=True) as owner,
    ):
        user, stale = (auth.sign_up_email(f"{name}@example.com") for name in ("ada", "bob"))
        owner.execute("update public.users set email = 'old@example.com' where id = %s", [stale])
        owner.execute(EVENT)
    replication = exit_stack.enter_context(Proxy(pair.primary.host, pair.primary.port))
    server = exit_stack.enter_context(pair.standby(replication))
    until(lambda: has_replayed(pair.primary, server))
    pair.fail_over_to(server)
    with TestClient(console.app(pair.dsn, authorize=lambda _: True)) as browser:
        for path in (*PAGES, f"/users/{user}", f"/users/{user}/deletion"):
            assert browser.get(path).status_code == 200, path
        assert "The database accepts no writes" in browser.get("/").text
        assert "Nothing: the row is in sync." in browser.get(f"/users/{user}").text
        page = browser.get(f"/users/{stale}").text
        assert "Not tried: the database accepts no writes" in page
        assert "Out of sync" in page
        assert "order.paid" in browser.get("/events").text
        assert "order.paid" in browser.get("/entity?entity=order/1").text
        assert browser.get("/users?q=ADA@example.com", follow_redirects=False).status_code == 303
        server.stop()
        for path in {*PAGES, f"/users/{user}"} - {"/users"}:
            answer = browser.get(path)
            assert answer.status_code == 503, path
            assert "The database is unavailable" in answer.text
        # The same pages work again when the connection string leads to a running server.
        pair.fail_over_to(pair.primary)
        for path in (*PAGES, f"/users/{user}"):
            assert browser.get(path).status_code == 200, path
