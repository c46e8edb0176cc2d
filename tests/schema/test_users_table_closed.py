"""Grants that a restore adds to usersync's users table, and that row-level security does not restrict."""

from __future__ import annotations

import pytest

from usersync.config.settings import Settings, parse_settings
from usersync.schema import installation
from usersync.testing.install import install
from usersync.transports.run import run

GRANTEES = """
    select grantee::regrole::text from pg_class cross join aclexplode(relacl)
    where pg_class.oid = 'public.users'::regclass and privilege_type in ('TRIGGER', 'REFERENCES', 'TRUNCATE')
        and grantee <> relowner
    order by 1
"""


def changes(connection, settings):
    return [
        each
        for each in run(installation.plan(settings), connection).changes
        if "public.users" in each.subject
    ]


def test_apply_revokes_privileges_on_a_table_that_usersync_created(database, postgres):
    install(database, Settings())
    postgres.execute("grant all on public.users to anon, authenticated, service_role")
    (change,) = changes(postgres, Settings())
    assert change.reason == "TRIGGER, REFERENCES or TRUNCATE is granted to anon, authenticated, service_role"
    run(installation.apply(Settings()), postgres)
    assert postgres.execute(GRANTEES).fetchall() == []
    assert changes(postgres, Settings()) == []


@pytest.mark.parametrize("regime", ["old", "new"])
def test_a_table_of_the_application_keeps_its_grants(database, postgres):
    settings = parse_settings({"columns": {"email": "email", "deleted_at": "deleted_at"}})
    postgres.execute("create table public.users (id uuid primary key, email text, deleted_at timestamptz)")
    before = postgres.execute(GRANTEES).fetchall()
    assert before
    install(database, settings)
    assert postgres.execute(GRANTEES).fetchall() == before
    assert changes(postgres, settings) == []
