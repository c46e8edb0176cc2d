"""Retention of events by action, legal holds, and the severity of actions."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from sql_log import event

from audit_settings import with_audit_log
from usersync.audit import erasure, holds, upkeep
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.config.settings import parse_settings
from usersync.errors import SettingsError
from usersync.transports.run import run

RULES = {
    "retention": {"default": "24mo", "auth.*": "90d", "auth.kept%": "99y", "billing.*": "99y"},
    "severity": {"auth.*": "high", "auth.login": "low", "things.deleted": "critical"},
}

pytestmark = pytest.mark.newest_server

MONTHS_AGO = "select (now() - make_interval(months => %s))::text"


@pytest.fixture
def settings():
    return with_audit_log({"on_delete": "delete", "audit": RULES})


def recorded(log, *events):
    """Record events, each given by its age in months, an action and fields. recorded_at is occurred_at."""
    for months, action, fields in events:
        (at,) = log.owner.execute(MONTHS_AGO, [months]).fetchone()
        month = "date_trunc('month', %s::timestamptz)::date"
        log.owner.execute(f"select usersync.make_audit_partition({month})", [at])
        log.record(event(occurred_at=at, action=action, **fields))
    with log.owner.transaction():
        log.owner.execute("set local usersync.maintaining = 'audit'")
        log.owner.execute(f"update {log.table} set recorded_at = occurred_at")


def actions(log):
    return sorted(row["action"] for row in log.rows())


def test_each_action_has_its_own_retention(log):
    recorded(
        log,
        (40, "order.placed", {}),
        (30, "order.placed", {}),
        (30, "billing.paid", {}),
        (12, "order.kept", {}),
        (12, "auth.login", {}),
        (12, "auth.kept%", {}),
        (0, "auth.new", {}),
    )
    rules = run(upkeep.retention(), log.owner)
    assert rules.default.day == 1
    planned = run(upkeep.prune(rules, dry_run=True), log.owner)
    assert len(log.rows()) == 7
    result = run(upkeep.prune(rules), log.owner)
    assert planned.parts == result.parts
    assert [(part.rows, part.dropped) for part in result.parts] == [(1, True), (1, False), (1, False)]
    assert actions(log) == ["auth.kept%", "auth.new", "billing.paid", "order.kept"]
    assert run(upkeep.prune(rules), log.owner).parts == ()
    # An explicit time takes precedence over the settings.
    run(upkeep.prune(datetime.now(UTC)), log.owner)
    assert actions(log) == ["auth.new"]


def test_events_under_a_legal_hold_are_not_pruned(log):
    recorded(
        log,
        (40, "a", {"tenant_id": "acme"}),
        (40, "b", {"tenant_id": "bolt"}),
        (39, "c", {"entity_type": "order", "entity_id": "1"}),
        (38, "d", {"entity_type": "order", "entity_id": "2"}),
        (38, "e", {"entity_type": "bill", "entity_id": "1"}),
        (38, "f", {}),
    )
    log.record(event(action="", tenant_id="acme"), event(action="", tenant_id="bolt"))
    log.owner.execute("update usersync.audit_rejects set rejected_at = '2001-01-01'")
    held = [
        run(holds.add("case 1", tenant_id="acme", by="ada"), log.owner),
        run(holds.add("case 2", entity_type="order", entity_id="1"), log.owner),
        run(holds.add("case 3", entity_type="bill"), log.owner),
    ]
    assert run(holds.holds(), log.owner) == tuple(held)
    assert [each.subject for each in held] == ["tenant acme", "entity order/1", "entity bill"]
    assert [each.created_by for each in held] == ["ada", "postgres", "postgres"]
    rules = run(upkeep.retention(), log.owner)
    planned = run(upkeep.prune(rules, dry_run=True), log.owner)
    result = run(upkeep.prune(rules), log.owner)
    assert (result.parts, result.holds) == (planned.parts, tuple(held))
    assert (result.rows, result.held) == (4, 4)
    assert actions(log) == ["a", "c", "e"]
    assert len(log.rejects()) == 1
    for each in held:
        assert run(holds.remove(each.hold_id), log.owner) == each
    assert run(upkeep.prune(rules), log.owner).held == 0
    assert (actions(log), log.rejects()) == ([], [])
    with pytest.raises(SettingsError, match="no legal hold"):
        run(holds.remove(held[0].hold_id), log.owner)
    for wrong in ({}, {"tenant_id": "a", "entity_type": "b"}):
        with pytest.raises(SettingsError, match="either a tenant or an entity"):
            run(holds.add("why", **wrong), log.owner)


def test_a_hold_added_just_before_the_drop_is_respected(log, monkeypatch):
    recorded(log, (40, "a", {"tenant_id": "acme"}))
    retry_while_locked = upkeep.retry_while_locked

    def add_hold_meanwhile(*arguments):
        run(holds.add("case", tenant_id="acme"), log.owner)
        return retry_while_locked(*arguments)

    monkeypatch.setattr(upkeep, "retry_while_locked", add_hold_meanwhile)
    run(upkeep.prune(run(upkeep.retention(), log.owner)), log.owner)
    assert actions(log) == ["a"]


def test_events_under_a_legal_hold_are_not_erased(log):
    user = log.project.auth.sign_up_email("ada@example.com")
    for tenant in ("acme", "bolt"):
        log.record(event(action=tenant, actor_id=str(user), tenant_id=tenant, ip="192.0.2.1"))
    run(holds.add("case", tenant_id="acme"), log.owner)
    log.project.auth.hard_delete(user)
    for dry_run in (True, False):
        found = run(erasure.erase(user, dry_run=dry_run), log.owner)
        assert (found.events, found.held) == (1, 1)
    addresses = {row["action"]: row["ip"] and str(row["ip"]) for row in log.rows() if row["tenant_id"]}
    assert addresses == {"acme": "192.0.2.1", "bolt": None}


def test_events_have_the_severity_of_their_action(log):
    log.owner.execute("create table public.things (id int primary key)")
    options, is_secret = TrackOptions(), Redactor().is_secret
    run(tracking.track(log.project.settings, "public.things", options, is_secret), log.owner)
    log.owner.execute("insert into things values (1); delete from things")
    log.record(
        event(action="auth.login"),
        event(action="auth.failed"),
        event(action="auth.told", severity="info"),
        event(action="other"),
    )
    found = {row["action"]: row["severity"] for row in log.rows()}
    assert found == {
        "things.inserted": None,
        "things.deleted": "critical",
        "auth.login": "low",
        "auth.failed": "high",
        "auth.told": "info",
        "other": None,
    }


INVALID_RULES = {
    "not a duration": ({"retention": {"default": "soon"}}, "not a duration"),
    "too long": ({"retention": {"default": "9999y"}}, "before the year 1"),
    "no text": ({"retention": {"default": 5}}, "expected a text"),
    "a star": ({"retention": {"a.*.b": "1y"}}, "neither default, nor an action"),
    "a mistyped default": ({"retention": {"defalt": "90d"}}, "Did you mean 'default'"),
    "no dot": ({"retention": {"auth*": "90d"}}, r"Did you mean 'auth\.\*'"),
    "not quoted": ({"retention": {"auth": {"login": "90d"}}}, '"auth.login" = '),
    "a setting": ({"user_event": True}, "unknown setting 'user_event' Did you mean 'user_events'"),
    "an option": ({"columns": {"id": {"colum": "i"}}}, r"columns\.id: unknown option .* 'column'"),
    "no table": (True, "expected a table"),
    "of the application": ({"retention": {"default": "1y"}, "columns": {"id": "i"}}, "own table"),
    "severity": ({"severity": {"a.b": "urgent"}}, "expected info, low"),
}


@pytest.mark.parametrize("case", INVALID_RULES)
def test_invalid_rules_are_refused(case):
    given, message = INVALID_RULES[case]
    with pytest.raises(SettingsError) as raised:
        parse_settings({"audit": given})
    assert re.search(message, f"{raised.value} {raised.value.hint}")
    kept = parse_settings({"audit": RULES})
    assert parse_settings(kept.describe()).audit == kept.audit
