"""A project for the tests of the console: users in each state, and events with hostile values."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from hostile_values import BIDI, HTML, HUGE, SUBSCRIPTION
from starlette.testclient import TestClient

from audit_settings import with_audit_log
from usersync import UserSync, console
from usersync.audit.feed import number_events
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.console import customer_pages, pages
from usersync.core import user_names
from usersync.events import subscriptions
from usersync.events.models import Subscription
from usersync.testing import GoTrue
from usersync.testing.install import install
from usersync.transports.run import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from usersync.testing import SupabaseCluster, SupabaseDatabase


_HOSTILE, _HUGE, _WIDE, _FIRST, _OWN, _FOREIGN = (UUID(int=number) for number in range(101, 107))


@dataclass(frozen=True)
class Shown:
    """The database, its users and its events."""

    database: SupabaseDatabase
    well: UUID
    stale: UUID
    failing: UUID
    hostile: UUID = _HOSTILE
    huge: UUID = _HUGE
    wide: UUID = _WIDE
    first: UUID = _FIRST
    #: An event of the tenant acme, and one of the tenant globex with the same entity and request.
    own: UUID = _OWN
    foreign: UUID = _FOREIGN


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine, too, charts and searches are complete. Tests of a time limit set another one."""
    for name in ("_CHART_LIMIT_S", "_SEARCH_LIMIT_S", "_HISTOGRAM_LIMIT_S"):
        monkeypatch.setattr(pages, name, 60.0)
    monkeypatch.setattr(customer_pages, "_LIMIT_S", 60.0)
    monkeypatch.setattr(user_names, "_LIMIT_MS", 60_000)


@pytest.fixture(scope="module")
def _databases() -> Iterator[tuple[dict[str, Shown], ExitStack]]:
    with ExitStack() as stack:
        yield {}, stack


@pytest.fixture
def project(cluster: SupabaseCluster, _databases: tuple[dict[str, Shown], ExitStack]) -> Shown:
    """One database for all tests of a module. None of these tests writes to it."""
    made, stack = _databases
    if "project" not in made:
        database = cluster.clone(cluster.template("console", build=_fill))
        stack.callback(cluster.drop, database)
        with database.connect("supabase_auth_admin") as auth:
            ids = dict(auth.execute("select split_part(email, '@', 1), id from auth.users").fetchall())
        made["project"] = Shown(database, ids["ada"], ids["stale"], ids["failing"])
    return made["project"]


def _fill(database: SupabaseDatabase) -> None:
    install(database, with_audit_log())
    with GoTrue(database.dsn("supabase_auth_admin")) as auth, database.connect() as owner:
        owner.execute("alter table public.users add constraint no_bad_name check (full_name <> 'bad')")
        owner.execute("create table public.products (id bigint primary key, name text)")
        track = tracking.track(with_audit_log(), "products", TrackOptions(), Redactor().is_secret)
        run(track, owner)
        owner.execute("insert into public.products values (7, 'Bolt')")
        owner.execute("update public.products set name = 'Nut' where id = 7")
        well = auth.sign_up_email("ada@example.com", data={"full_name": HTML + BIDI})
        stale = auth.sign_up_email("stale@example.com", data={"full_name": "Right"})
        auth.sign_up_email("failing@example.com", data={"full_name": "bad"})
        with UserSync(database.dsn()) as sync:
            sync.reconcile()
        owner.execute("update public.users set full_name = 'Wrong', email = 'old@x.y' where id = %s", [stale])
        _event(owner, "order.paid", id=_FIRST, actor_id=str(well), user_id=well, request_id="r-1")
        for number in range(120):
            _event(owner, "order.counted", request_id="r-1" if number < 2 else None, entity_id=str(number))
        _event(
            owner, HTML, id=_HOSTILE, outcome="denied", actor_id=BIDI, entity_type=HTML,
            entity_id='"><b>/../', user_agent=HTML, changes={HTML: [BIDI, HTML]}, metadata={HTML: BIDI},
        )  # fmt: skip
        changes = {HTML: [BIDI, HTML]}
        _event(owner, "hostile", entity_type="hostile", entity_id=HTML, actor_id=HTML, changes=changes)
        _event(owner, "huge", id=_HUGE, changes={"text": [None, HUGE]}, metadata={"text": HUGE})
        _event(owner, "wide", id=_WIDE, changes={f"column{n}": [n, n + 1] for n in range(1000)})
        owner.execute(
            "insert into usersync.audit_rejects (event, sqlstate, reason) values (%s, '22P02', %s)",
            [json.dumps({"action": HTML, "why": BIDI}), HTML],
        )
        _fill_tenants(owner)
        _fill_subscriptions(owner, _FIRST)


def _fill_tenants(owner: psycopg.Connection[Any]) -> None:
    """Events of two tenants. Each value of the second tenant contains ``globex``."""
    for number in range(60):
        _event(
            owner, "invoice.sent", id=_OWN if number == 59 else uuid4(), tenant_id="acme",
            actor_id="acme-ada", entity_type="invoice", entity_id=str(number % 3),
            request_id="shared-request", user_agent="unseen-agent",
            changes={"total": [number, number + 1]}, metadata={"plan": "acme-plan", "note": "unseen-note"},
        )  # fmt: skip
    for number in range(3):
        _event(
            owner, "invoice.sent", id=_FOREIGN if number == 2 else uuid4(), tenant_id="globex",
            actor_id="globex-bob", entity_type="invoice", entity_id=str(number),
            request_id="shared-request", on_behalf_of="globex-eve", outcome="denied",
            changes={"name": ["globex-old", "globex-new"]}, metadata={"plan": "globex-plan"},
        )  # fmt: skip


def _fill_subscriptions(owner: psycopg.Connection[Any], event_id: UUID) -> None:
    """A subscription without events, and one with failed events and a hostile name."""
    for name in ("quiet", SUBSCRIPTION):
        run(subscriptions.add(Subscription(name, "handler", ("order.*", HTML))), owner)
    _event(owner, "late")
    run(number_events(), owner)
    for number, state, attempts in ((1, "dead", 9), (2, "waiting", 1), (3, "waiting", 0)):
        owner.execute(
            "insert into usersync.parked_events (subscription, number, event_id, shard, entity_type, "
            "entity_id, state, attempts, next_try_at, error) "
            "values (%s, %s, %s, 0, 'order', %s, %s, %s, %s, %s)",
            [
                SUBSCRIPTION,
                number,
                event_id,
                HTML,
                state,
                attempts,
                "now" if attempts == 1 else None,
                HTML + BIDI,
            ],
        )
    for attempt in range(60):
        owner.execute(
            "insert into usersync.delivery_attempts (subscription, number, event_id, attempt, attempted_at, "
            "seconds, error, answer) values (%s, 1, %s, %s, now(), 0.25, %s, %s)",
            [SUBSCRIPTION, event_id, attempt + 1, None if attempt == 59 else HTML, BIDI],
        )


def _event(owner: psycopg.Connection[Any], action: str, **fields: Any) -> None:
    given = {
        "id": uuid4(),
        "occurred_at": "now",
        "action": action,
        "outcome": "succeeded",
        "actor_type": "user",
        "source": "app",
        "entity_type": "order",
        **fields,
    }
    values = [json.dumps(value) if isinstance(value, dict) else value for value in given.values()]
    places = ", ".join(["%s"] * len(values))
    owner.execute(f"insert into public.audit_logs ({', '.join(given)}) values ({places})", values)


@pytest.fixture
def browser(project: Shown) -> Iterator[TestClient]:
    """A client of the mounted console with access for everyone."""
    application = console.app(project.database.dsn(), authorize=lambda _: True)
    with TestClient(application) as client:
        yield client
