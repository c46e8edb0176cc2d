"""What doctor says of a database that has no audit log, because nobody has asked for one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from usersync.audit.event.redaction import Redactor
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.doctor import choose, examine
from usersync.doctor.context import Spool
from usersync.transports.run import run

OF_THE_LOG = ("D024", "D025", "D026", "D027")


@pytest.fixture
def asks_for_log():
    return False


@pytest.fixture(params=[False, True], ids=["no table", "another table"])
def examined(request, clinic):
    if request.param:
        table = clinic.settings.audit_table.quoted
        clinic.project.owner.execute(f"create table {table} (id int)")
    return clinic


def test_the_checks_of_the_log_are_skipped_and_say_how_to_get_one(examined):
    checks = examined.check_all()
    assert {checks[code].status for code in OF_THE_LOG} == {"skipped"}
    assert all("usersync audit enable" in checks[code].detail for code in OF_THE_LOG)
    assert {code for code in examined.sick() if code not in OF_THE_LOG} == set()


def test_events_that_wait_are_a_problem(examined):
    spool = Spool("project", waiting=2, abandoned=0, oldest_at=None, refused=0)
    (check,) = run(examine(examined.settings, choose(["D032"]), spool=spool), examined.project.owner)
    assert check.status == "problem"
    assert check.fix == "usersync audit enable"


def test_a_log_that_is_asked_for_and_gone_is_a_problem(clinic):
    clinic.settings = replace(clinic.settings, audit=replace(clinic.settings.audit, enabled=True))
    assert clinic.check("D025").status == "problem"
    clinic.apply(clinic.check("D025"))
    assert clinic.check("D025").status == "ok"


class TestTracked:
    @pytest.fixture
    def asks_for_log(self):
        return True

    def test_tracked_tables_without_a_log_are_a_problem(self, clinic):
        owner = clinic.project.owner
        owner.execute("create table public.products (id int primary key)")
        run(tracking.track(clinic.settings, "public.products", TrackOptions(), Redactor().is_secret), owner)
        owner.execute(f"drop table {clinic.settings.audit_table.quoted} cascade")
        check = clinic.check("D029")
        assert check.status == "problem"
        assert check.fix == "usersync audit enable"
