"""Backfills: a new subscription gets one event for each existing user, in addition to the feed."""

from __future__ import annotations

import pytest
from working import wait_for

from usersync import Handlers
from usersync.errors import SettingsError
from usersync.events import subscriptions
from usersync.events.models import Subscription
from usersync.transports.run import run
from usersync.worker.periodic import prune_attempts

pytestmark = pytest.mark.newest_server

LATE = "00000000-0000-0000-0000-00000000000a"
READ = "select usersync.read_backfill('crm', -1000000000000, '{0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}', 500)"


def is_ready(working):
    return working.owner.execute("select ready_xid is not null from usersync.backfills").fetchone()[0]


@pytest.mark.slow
def test_a_backfill_has_one_event_for_each_user(working, project, caplog):
    handlers, seen, broken = Handlers(), [], set()

    @handlers.on("user.*", name="crm", attempts=2)
    def crm(event):
        if event.entity_id in broken:
            raise ValueError
        if event.action != "user.updated":
            seen.append((event.entity_id, event.action, event.metadata.get("backfill"), str(event.id)))

    def sign_up(name):
        return str(project.auth.sign_up_email(f"{name}@example.com"))

    old = [sign_up(f"old{n}") for n in range(3)]
    broken |= {old[0]}
    gone = sign_up("gone")
    with project.database.connect("supabase_auth_admin") as auth:
        auth.execute(
            "insert into auth.users (id, email, created_at) "
            "select gen_random_uuid(), 'bulk' || n || '@example.com', now() "
            "from generate_series(1, 1500) as n"
        )
    stored_before = working.owner.execute("select count(*) from public.audit_logs").fetchone()
    with project.database.connect("supabase_auth_admin") as auth:
        with auth.transaction():
            # This user's transaction commits after the subscription began, and has no event.
            auth.execute("insert into auth.users (id, email) values (%s, 'late@example.com')", [LATE])
            working.register(handlers, backfill=True)
            new = sign_up("new")
            with working.worker(handlers):
                wait_for(lambda: is_ready(working), "the worker's first look")
            (page,) = working.owner.execute(READ).fetchone()
            assert (page["events"], page["position"], page["more"]) == ([], -(10**12), False)
            assert seen == []
        auth.execute("delete from auth.users where id = %s", [gone])
    with working.worker(handlers):
        wait_for(lambda: working.status("crm").dead, "the dead event")
        working.wait_done("crm")
    created = {
        entity: (flag, event_id) for entity, action, flag, event_id in seen if action == "user.created"
    }
    assert len(created) == len([each for each in seen if each[1] == "user.created"]) == 1500 + 2 + 1 + 1
    assert {created[each][0] for each in (*old[1:], LATE)} == {True}
    assert created[new][0] is None
    assert [each[:2] for each in seen if each[0] == gone] == [(gone, "user.deleted")]
    assert seen.index(next(each for each in seen if each[0] == new)) > 1500
    # The backfill's events are not in the audit log. It has only events of later changes.
    stored = working.owner.execute("select count(*) from public.audit_logs").fetchone()[0] - stored_before[0]
    assert stored < 10
    assert working.status("crm").backfilled is None

    # A retry of a dead event reads the user's row again. Only this user is still listed.
    run(prune_attempts(), working.owner)
    assert working.owner.execute("select user_id::text from usersync.backfill_events").fetchall() == [
        (old[0],)
    ]
    broken.clear()
    (dead,) = working.parked("crm")
    # Its number means nothing to people.
    assert f"crm: backfill event {dead.event_id} is dead after attempt" in caplog.text
    assert run(subscriptions.retry("crm", event_id=dead.event_id), working.owner) == 1
    with working.worker(handlers):
        working.wait_done("crm")
    assert seen[-1][:3] == (old[0], "user.created", True)


def test_a_backfill_from_the_beginning_has_one_event_for_each_user(working, project):
    handlers, seen = Handlers(), []
    early = project.auth.sign_up_email("early@example.com")
    first = Handlers()
    first.on("user.created", name="first")(lambda _: None)
    working.register(first)
    known = project.auth.sign_up_email("known@example.com")

    @handlers.on("user.created", name="second")
    def second(event):
        seen.append((event.user_id, event.metadata.get("backfill")))

    @handlers.on("a.b", name="other")
    def other(event):
        raise AssertionError

    working.register(handlers, from_beginning=True, backfill=True)
    assert working.status("other").backfilled is None
    assert working.status("second").backfilled == 0
    assert working.status("second").has_problem
    with working.worker(handlers):
        working.wait_done("second")
    assert seen == [(early, True), (known, None)]


@pytest.mark.parametrize(
    ("actions", "wanted"),
    [
        (("order.*", "user.deleted"), {}),
        (("user.*",), {"tenant_id": "acme"}),
        (("*",), {"outcome": "failed"}),
    ],
)
def test_a_filter_that_omits_existing_users_is_refused(working, actions, wanted):
    with pytest.raises(SettingsError, match="a backfill consists of"):
        run(subscriptions.add(Subscription("x", "webhook", actions, wanted), backfill=True), working.owner)
    assert run(subscriptions.subscriptions(), working.owner) == ()
