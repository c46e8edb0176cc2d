"""P7: Supabase's advisor reports nothing about usersync's objects, and each of its lints can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit_settings import with_audit_log
from fixtures_project import clone_installed

ADVISOR = Path(__file__).with_name("advisor.sql").read_text("utf-8")

#: SQL that each lint reports. If a lint depends on a grant, the old regime's default privileges give it.
FINDINGS = {
    "0001": "create table public.t (id int primary key, u uuid references public.users)",
    "0002": "create view public.v with (security_invoker = true) as select id from auth.users",
    "0003": "create policy p on public.users for insert to service_role with check (auth.uid() = id)",
    "0004": "create table usersync.t (id int)",
    "0006": "create policy p on public.users for select to authenticated using"
            " ((select (auth.jwt() ->> 'is_anonymous')::boolean))",
    "0007": "alter table public.users disable row level security",
    "0008": "create table usersync.t (id int primary key); alter table usersync.t enable row level security",
    "0009": "create index on public.users (id)",
    "0010": "create view public.v as select id from public.users",
    "0011": "create function usersync.f() returns int language sql as 'select 1'",
    "0012": "create policy p on public.users for delete to authenticated using ((select auth.uid()) = id)",
    "0013": "create table public.t (id int primary key)",
    "0015": "create policy p on public.users for insert to service_role with check"
            " ((select auth.jwt() ->> 'user_metadata') is null)",
    "0016": "create materialized view public.m as select 1 as n",
    "0021": "create table public.t (id int primary key, phone text unique references auth.users (phone))",
    "0023": "create table public.t (id int primary key, session_id text)",
    "0024": "create policy p on public.users for update to service_role using (true)",
    "0026": "create schema graphql; grant select on public.users to anon",
    "0027": "create schema graphql",
    "0028": "create function public.f() returns int language sql security definer"
            " set search_path = '' as 'select 1'",
    "0029": "create function public.f() returns int language sql security definer"
            " set search_path = '' as 'select 1'; revoke execute on function public.f from public, anon",
}  # fmt: skip


@pytest.fixture
def database(cluster, regime):
    """A database with usersync and an audit log."""
    database = clone_installed(cluster, with_audit_log(), regime=regime)
    yield database
    cluster.drop(database)


@pytest.fixture
def advised(superuser):
    """A function that runs the advisor, and returns its findings by lint."""
    # Otherwise the functions of "auth" would be shown without their schema.
    superuser.execute("set search_path = ''")

    def run():
        found = {}
        for lint, about in superuser.execute(ADVISOR).fetchall():
            found.setdefault(lint, []).append(about)
        return found

    return run


@pytest.mark.parametrize("regime", ["old", "new"])
def test_the_advisor_reports_nothing(advised, regime):
    assert advised() == {}


@pytest.mark.parametrize("lint", FINDINGS)
@pytest.mark.newest_server
def test_each_lint_reports_a_true_positive(advised, superuser, postgres, lint):
    before = advised()
    connection = superuser if "auth.users" in FINDINGS[lint] or "graphql" in FINDINGS[lint] else postgres
    if lint == "0002":
        superuser.execute("grant select on auth.users to postgres")
        connection = postgres
    connection.execute(FINDINGS[lint])
    assert set(advised()) - set(before) >= {lint}
