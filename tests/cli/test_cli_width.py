"""The output of commands on a terminal of 80 columns, with long values."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import click
import pytest

from usersync.audit.models import EventRecord
from usersync.cli.audit.event_view import event_summary_lines
from usersync.cli.config import ConfigView, Value, Variable
from usersync.cli.plan_view import PlanView
from usersync.cli.subscriptions.view import SubscriptionsView
from usersync.cli.text import columns
from usersync.events.models import DeliveryAttempt, ParkedEvent, SubscriptionStatus
from usersync.models import SchemaPlan

ID = UUID("8a9a021e-a648-47dd-8683-9eb905b6e6e3")
AT = datetime(2026, 3, 31, 18, 30, tzinfo=UTC)
WORD = "unavailable_" * 40


def lines_of(view):
    return [click.unstyle(line) for line in view.lines(80)]


@pytest.mark.parametrize("name", ["crm", "analytics-export-to-the-warehouse-of-the-company"])
def test_subscriptions_fit(name):
    status = SubscriptionStatus(
        name, "webhook", ("invoice.*", "order.*"), state="paused", lag=1_234_567, dead=1, parked=20
    )
    parked = ParkedEvent(name, 1, ID, "order", str(ID), "waiting", 1, AT, AT, WORD, AT)
    attempt = DeliveryAttempt(name, 1, 1, ID, 1, AT, 0.1, WORD, WORD)
    lines = lines_of(SubscriptionsView((status,), "db", parked=(parked,), attempts=(attempt,)))
    assert [line for line in lines if columns(line) > 80] == []
    shown = " ".join(" ".join(lines).split())
    for text in (name, "1,234,567", "invoice.* order.*", "no attempt while the subscription is paused"):
        assert text in shown


def test_settings_fit():
    variable = Variable(
        "DATABASE_URL", f"postgresql://{'x' * 90}", ".env.local:17", used=True, problem="wrong"
    )
    value = Value("audit.personal", [f"field_{number}" for number in range(40)], "usersync.toml:1234")
    lines = lines_of(ConfigView("db", None, (variable,), "usersync.toml", (value,)))
    assert [line for line in lines if columns(line) > 80] == []
    assert "field_39" in lines[-1]


@pytest.mark.parametrize(
    ("action", "kind", "key", "actor"),
    [
        ("order.paid", "order", "7", "app"),
        ("usersync.subscription_secret_rotated", "table", "usersync.subscriptions", "supabase_auth_admin"),
        ("usersync.subscription_secret_rotated", "user", str(ID), "supabase_auth_admin"),
        ("order.paid", "user", str(ID), "an_actor_with_a_long_name_in_the_log"),
    ],
)
def test_an_event_shows_its_action_entity_and_actor(action, kind, key, actor):
    given = dict.fromkeys(EventRecord.__dataclass_fields__) | {"id": ID, "occurred_at": AT, "tie": ""}
    given |= {"action": action, "entity_type": kind, "entity_id": key, "actor_id": actor}
    lines = [click.unstyle(line) for line in event_summary_lines(EventRecord(**given), 80)]
    assert [line for line in lines if columns(line) > 80] == []
    assert [each for each in (action, f"{kind}/{key}", actor, str(ID)) if each not in "\n".join(lines)] == []


def test_a_changed_setting_shows_its_difference():
    same = ", ".join(f'"field_{number}"' for number in range(20))
    differing = (("audit.personal", f'[{same}, "old"]', f'[{same}, "new"]'),)
    lines = lines_of(PlanView(SchemaPlan((), ()), "db", "usersync.toml", differing))
    shown = " ".join(" ".join(lines).split())
    assert ('"old"], and is' in shown, '"new"] in usersync.toml' in shown) == (True, True)
