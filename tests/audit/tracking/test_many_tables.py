"""Many tracked tables: doctor reads all of them with the same queries, and rollback locks a few at a time."""

from __future__ import annotations

import pytest

from usersync.audit.tracking.generate import render_inspection
from usersync.audit.tracking.operations import track
from usersync.audit.tracking.state import TrackOptions
from usersync.config.mapping import TableName, quote
from usersync.doctor import examine
from usersync.schema import installation, uninstall
from usersync.transports.run import run
from usersync.transports.steps import query, read_only

pytestmark = pytest.mark.newest_server


def track_tables(project, names):
    for name in names:
        table = "public." + quote(name)
        project.owner.execute(f"create table {table} (id int primary key, size int)")
        run(track(project.settings, table, TrackOptions(), lambda *_: False), project.owner)


def statements_of(plan, connection):
    """The statements that the plan sends."""
    said = []

    def listening():
        rows = None
        while True:
            try:
                step = plan.send(rows)
            except StopIteration as end:
                return end.value
            said.append(getattr(step, "sql", ""))
            rows = yield step

    run(listening(), connection)
    return said


@pytest.mark.slow
def test_doctor_sends_the_same_queries_for_six_tables_as_for_one(project):
    track_tables(project, ["bolts"])
    one = len(statements_of(examine(project.settings), project.owner))
    track_tables(project, ['nu"ts', "a, b", "{x}", "back\\slash", "ring"])
    checks = run(examine(project.settings), project.owner)
    assert [check.detail for check in checks if check.code == "D029"] == ["6 tables, recorded as installed"]
    assert len(statements_of(examine(project.settings), project.owner)) == one


def test_rollback_takes_a_few_tables_at_a_time(project, monkeypatch):
    track_tables(project, ["a", "b", "c", "d", "e"])
    monkeypatch.setattr(uninstall, "TABLES_AT_ONCE", 2)
    said = statements_of(installation.rollback(project.settings), project.owner)
    assert said.count("commit") == 1 + 3 + 1  # the plan, the tables, the remaining objects
    triggers = "select count(*) from pg_trigger where tgname like 'usersync%'"
    assert project.owner.execute(triggers).fetchone() == (0,)


def test_the_types_of_columns_are_looked_up_by_their_ids(project):
    track_tables(project, ["bolts"])
    inspection = render_inspection(project.settings, [TableName("public", "bolts")])
    plan = "\n".join(row for (row,) in project.owner.execute("explain (costs off) " + inspection))
    assert "pg_type_oid_index" in plan
    assert "Seq Scan on pg_type" not in plan


def test_no_query_of_the_catalog_is_compiled(project):
    (row,) = run(read_only(query("select current_setting('jit') as jit")), project.owner)
    assert row["jit"] == "off"
