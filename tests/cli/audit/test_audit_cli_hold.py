"""``usersync audit hold``: legal holds, and their effect on ``prune``."""

from __future__ import annotations

import pytest

from usersync.schema import installation
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server


def test_a_hold_is_added_listed_respected_by_prune_and_removed(audited):
    assert audited("prune").code == 2
    assert "add --keep" in audited("prune").err
    assert "no legal holds" in audited("hold", "list").out
    audited.record("order.placed", tenant_id="acme", occurred_at="2001-01-01")
    audited.project.owner.execute(
        "begin; set local usersync.maintaining = 'audit'; "
        "update public.audit_logs set recorded_at = occurred_at; commit"
    )
    added = audited("hold", "add", "--tenant", "acme", "--reason", "case 4711")
    assert added.code == 0
    assert "tenant acme" in added.out
    listed = audited("hold", "list", "--json").json["holds"]
    assert [(each["tenant_id"], each["reason"]) for each in listed] == [("acme", "case 4711")]
    planned = run(installation.plan_rollback(audited.project.settings), audited.project.owner).changes
    assert "with 1 legal hold (usersync audit hold list)" in {each.reason for each in planned}
    pruned = audited("prune", "--keep", "1y", "--yes")
    assert pruned.code == 0
    assert "1 older event under a legal hold" in pruned.out
    assert "tenant acme  case 4711" in pruned.out
    assert audited("prune", "--keep", "1y", "--dry-run", "--json").json["held"] == 1
    assert "Removed:" in audited("hold", "remove", listed[0]["hold_id"]).out
    again = audited("hold", "remove", listed[0]["hold_id"], "--json")
    assert (again.code, again.json["error"]["code"]) == (2, "US101")
    assert audited("prune", "--keep", "1y", "--yes", "--json").json["events"] == 1
    acts = audited("search", "--action", "usersync.hold*").out
    assert "usersync.hold_added" in acts
    assert "usersync.hold_removed" in acts
    for wrong in ((), ("--tenant", "a", "--entity", "b")):
        assert audited("hold", "add", *wrong, "--reason", "x").code == 2
