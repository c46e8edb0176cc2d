"""``usersync subscriptions`` and ``usersync worker`` with the handlers of an application's module."""

from __future__ import annotations

import signal
import socket

import pytest

from usersync.transports.steps import OWN_TRANSACTION
from waiting import until

pytestmark = pytest.mark.newest_server

MODULE = """
from usersync import Handlers

handlers = Handlers()

@handlers.on("order.*", attempts=1)
def crm(event):
    if event.entity_id == "2":
        raise ValueError("no such customer ada@example.com")

@handlers.on("order.placed", transactional=True)
def totals(event, connection):
    connection.execute("insert into public.effects values (%s)", [event.entity_id])
"""


@pytest.fixture
def audit_enabled():
    return True


@pytest.mark.slow
def test_the_handlers_of_a_module_are_registered_run_and_managed(project, usersync, spawn, directory):
    def call(*arguments, **options):
        return usersync(*arguments, "--dsn", project.database.dsn(), **options)

    def subscriptions(*arguments):
        return call("subscriptions", *arguments)

    (directory / "shop_events.py").write_text(MODULE)
    project.owner.execute("create table public.effects (entity text)")
    assert "no subscriptions" in subscriptions("list").out
    refused = call("worker", "shop_events:handlers")
    hint = "usersync subscriptions sync shop_events:handlers"
    assert (refused.code, "not registered: crm, totals" in refused.err, hint in refused.err) == (
        2,
        True,
        True,
    )
    assert [subscriptions("sync", each).code for each in ("shop_events", "nowhere:handlers")] == [2, 2]
    assert "not an object of usersync.Handlers" in subscriptions("sync", "shop_events:crm").err
    assert "the module shop_events has no nope" in subscriptions("sync", "shop_events:nope").err
    assert subscriptions("sync", "shop_events:handlers", "--json").json["created"] == ["crm", "totals"]
    assert "unchanged" in subscriptions("sync", "shop_events:handlers").out
    idle = subscriptions("list")
    assert (idle.code, "No worker runs for crm, totals" in idle.out) == (1, True)

    for n in range(3):
        project.owner.execute(
            f"{OWN_TRANSACTION} select public.record_audit_events(jsonb_build_array(jsonb_build_object("
            "'action', 'order.placed', 'entity_type', 'order', 'entity_id', %s::text))) from told",
            [str(n)],
        )
    worker = spawn(
        "worker", "shop_events:handlers", "--health", "0", "--dsn", project.database.dsn(), cwd=directory
    )
    until(lambda: subscriptions("dead", "--json").json["events"])
    until(lambda: project.owner.execute("select count(*) from public.effects").fetchone() == (3,))
    listed = {each["name"]: each for each in subscriptions("list", "--json").json["subscriptions"]}
    assert (listed["crm"]["dead"], listed["totals"]["dead"], listed["totals"]["lag"]) == (1, 0, 0)
    assert listed["crm"]["workers"] == 1
    shown = subscriptions("show", "crm")
    assert (shown.code, "ValueError: no such customer" in shown.out, "order/2" in shown.out) == (
        1,
        True,
        True,
    )
    assert shown.out.count("attempt 1") == 3
    made = subscriptions("attempts", "crm", "--json").json["attempts"]
    failed = [each for each in made if each["error"]]
    assert (len(made), [each["error"] for each in failed]) == (3, ["ValueError: no such customer <address>"])
    of_one = subscriptions("attempts", "crm", "--event", failed[0]["event_id"])
    assert (of_one.code, "ValueError: no such customer" in of_one.out, "succeeded" in of_one.out) == (
        0,
        True,
        False,
    )
    assert subscriptions("attempts", "nobody").code == 2
    worker.send_signal(signal.SIGTERM)
    _, errors = worker.communicate(timeout=90)
    assert worker.returncode == 0
    assert f"crm: event {failed[0]['number']} is dead after attempt 1: {failed[0]['error']}\n" in errors
    assert "Probes: http://127.0.0.1:" in errors

    assert subscriptions("replay", "crm", "--since", "1").code == 2  # --yes is missing
    assert "its last number is 4" in subscriptions("replay", "crm", "--since", "99", "--yes").err
    assert "no events since this time" in subscriptions("replay", "crm", "--since", "2999-01-01", "--yes").out
    again = subscriptions("replay", "totals", "--since", "1h", "--json", "--yes").json
    assert (again["number"], again["events"], again["parked"]) == (1, 4, 0)
    assert "1 event due now" in subscriptions("retry", "crm", "--event", failed[0]["event_id"]).out
    for reason in ("moving", "moving again"):
        assert "Paused:" in subscriptions("pause", "crm", "--reason", reason).out
        assert f"crm is paused: {reason}\n" in subscriptions("list").out
    assert "Active:" in subscriptions("resume", "crm").out
    assert subscriptions("remove", "crm").code == 2
    assert "Removed:" in subscriptions("remove", "crm", "--yes").out
    assert subscriptions("remove", "crm", "--yes").code == 2
    acts = call("audit", "search", "--action", "usersync.*", "--json").json["events"]
    assert {each["action"] for each in acts} >= {
        "usersync.subscriptions_synced",
        "usersync.events_retried",
        "usersync.subscription_replayed",
        "usersync.subscription_paused",
        "usersync.subscription_resumed",
        "usersync.subscription_removed",
    }


def test_a_health_port_in_use_is_an_error(project, usersync):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = usersync("worker", "--health", taken.getsockname()[1], "--dsn", project.database.dsn())
    assert (refused.code, "cannot listen at 127.0.0.1:" in refused.err) == (2, True)


@pytest.mark.parametrize("arguments", [("worker",), ("subscriptions", "list")])
def test_subscriptions_and_worker_require_a_database_connection(usersync, monkeypatch, arguments):
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "sb_secret_" + "x" * 30)
    refused = usersync(*arguments)
    assert refused.code == 2
    assert "requires a database connection" in refused.err
