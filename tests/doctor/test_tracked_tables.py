"""Tracked tables: what the checks of functions and triggers say of them, and D029."""

from __future__ import annotations

import pytest

from usersync.audit.event.redaction import Redactor
from usersync.audit.tracking import operations as tracking
from usersync.audit.tracking.state import TrackOptions
from usersync.transports.run import run

is_secret = Redactor().is_secret


@pytest.fixture
def track(clinic):
    def track(table, **options):
        plan = tracking.track(clinic.settings, table, TrackOptions(**options), is_secret)
        return run(plan, clinic.project.owner)

    return track


def test_a_tracked_table_is_no_trouble(clinic, track):
    clinic.project.owner.execute("create table public.products (id int primary key, api_token text)")
    track("products")
    track(clinic.settings.source_table.quoted)
    assert clinic.sick() == {}
    assert "2 tables" in clinic.check("D029").detail


@pytest.mark.newest_server
def test_d029_a_table_that_was_altered_since(clinic, track):
    owner = clinic.project.owner
    owner.execute("create table public.products (id int primary key, notes text)")
    track("products", exclude=("notes",))
    owner.execute("alter table public.products add column price int")
    check = clinic.check("D029")
    assert check.status == "warning"
    assert "not recorded, because added or renamed since: price" in check.detail
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
def test_d029_a_table_that_is_not_recorded_any_more(clinic, track, damage):
    owner = clinic.project.owner
    owner.execute("create table public.products (id int primary key)")
    track("products")
    (function,) = owner.execute(
        "select oid::regprocedure::text from pg_proc where proname like 'handle_changes_products%_update'"
    ).fetchone()
    owner.execute(damage.format(function))
    assert set(clinic.sick()) == {"D029"}
    assert clinic.check("D029").status == "problem"
    track("products")
    assert clinic.sick() == {}


@pytest.mark.newest_server
def test_d029_a_table_that_is_gone(clinic, track):
    owner = clinic.project.owner
    owner.execute("create table public.products (id int primary key)")
    track("products")
    owner.execute("drop table public.products")
    assert clinic.check("D029").fix == "-- If it is not to come back: usersync audit untrack public.products"
