"""The checks of a database without an audit log, if the settings request none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.doctor import choose, examine
from usersync.doctor.context import Spool
from usersync.transports.run import run

LOG_CHECKS = ("D024", "D025", "D026", "D027")


@pytest.fixture
def audit_enabled():
    return False


@pytest.fixture(params=[False, True], ids=["no table", "another table"])
def examined(request, checked):
    if request.param:
        table = checked.settings.audit_table.quoted
        checked.project.owner.execute(f"create table {table} (id int)")
    return checked


def test_the_checks_of_the_log_are_skipped_and_name_usersync_audit_enable(examined):
    checks = examined.check_all()
    assert {checks[code].status for code in LOG_CHECKS} == {"skipped"}
    assert all("usersync audit enable" in checks[code].detail for code in LOG_CHECKS)
    assert {code for code in examined.failing() if code not in LOG_CHECKS} == set()


def test_spooled_events_are_a_problem_without_a_log(examined):
    spool = Spool("project", waiting=2, abandoned=0, oldest_at=None, quarantined=0)
    (check,) = run(examine(examined.settings, choose(["D032"]), spool=spool), examined.project.owner)
    assert check.status == "problem"
    assert check.fix == "usersync audit enable"


def test_a_missing_log_is_a_problem_if_the_settings_request_it(checked):
    checked.settings = replace(checked.settings, audit=replace(checked.settings.audit, enabled=True))
    assert checked.check("D025").status == "problem"
    checked.apply(checked.check("D025"))
    assert checked.check("D025").status == "ok"


class TestTracked:
    @pytest.fixture
    def audit_enabled(self):
        return True

    def test_tracked_tables_without_a_log_are_a_problem(self, checked):
        owner = checked.project.owner
        owner.execute("create table public.products (id int primary key)")
        run(tracking.track(checked.settings, "public.products", TrackOptions(), Redactor().is_secret), owner)
        owner.execute(f"drop table {checked.settings.audit_table.quoted} cascade")
        check = checked.check("D029")
        assert check.status == "problem"
        assert check.fix == "usersync audit enable"
