"""D029, and the checks of functions and triggers on tracked tables."""

from __future__ import annotations

import pytest

from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.config.redaction import Redactor
from usersync.transports.run import run

is_secret = Redactor().is_secret


@pytest.fixture
def track(checked):
    def track(table, **options):
        plan = tracking.track(checked.settings, table, TrackOptions(**options), is_secret)
        return run(plan, checked.project.owner)

    return track


def test_every_check_is_ok_with_a_tracked_table(checked, track):
    checked.project.owner.execute("create table public.products (id int primary key, api_token text)")
    track("products")
    track(checked.settings.source_table.quoted)
    assert checked.failing() == {}
    assert "2 tables" in checked.check("D029").detail


@pytest.mark.newest_server
def test_d029_warns_about_an_altered_table(checked, track):
    owner = checked.project.owner
    owner.execute("create table public.products (id int primary key, notes text)")
    track("products", exclude=("notes",))
    owner.execute("alter table public.products add column price int")
    check = checked.check("D029")
    assert check.status == "warning"
    assert "added or renamed since: price; recording is slow" in check.detail
    assert check.fix == "usersync audit track public.products --exclude notes"


@pytest.mark.parametrize(
    "damage",
    [
        "alter table public.products disable trigger usersync_updated",
        "drop trigger usersync_updated on public.products",
        "alter function {} security invoker",
        "alter function {} set search_path = public",
    ],
)
@pytest.mark.newest_server
def test_d029_reports_a_table_whose_changes_are_not_recorded(checked, track, damage):
    owner = checked.project.owner
    owner.execute("create table public.products (id int primary key)")
    track("products")
    (function,) = owner.execute(
        "select oid::regprocedure::text from pg_proc where proname like 'handle_changes_products%_update'"
    ).fetchone()
    owner.execute(damage.format(function))
    assert set(checked.failing()) == {"D029"}
    assert checked.check("D029").status == "problem"
    track("products")
    assert checked.failing() == {}


@pytest.mark.newest_server
def test_d029_reports_a_dropped_table(checked, track):
    owner = checked.project.owner
    owner.execute("create table public.products (id int primary key)")
    track("products")
    owner.execute("drop table public.products")
    assert (
        checked.check("D029").fix
        == "-- If the table will not be restored: usersync audit untrack public.products"
    )
