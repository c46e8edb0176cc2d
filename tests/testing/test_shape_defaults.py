"""The default privileges of new objects in ``public``, under both of Supabase's regimes."""

from __future__ import annotations

import pytest

API_ROLES = ["anon", "authenticated", "service_role"]


@pytest.fixture
def new_objects(postgres):
    postgres.execute("create table public.thing (id bigserial primary key)")
    postgres.execute("create function public.deed() returns int language sql return 1")
    postgres.execute("create schema usersync create table thing (id int)")
    postgres.execute("create function usersync.deed() returns int language sql return 1")
    return postgres


def allowed(connection, role):
    """The role's privileges on public.thing, its sequence, and public.deed()."""
    privileges = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]
    on_table = (
        "select array_agg(p) from unnest(%s::text[]) p where has_table_privilege(%s, 'public.thing', p)"
    )
    table = connection.execute(on_table, [privileges, role]).fetchone()[0]
    rest = """
        select has_sequence_privilege(%(role)s, 'public.thing_id_seq', 'USAGE'),
               has_function_privilege(%(role)s, 'public.deed()', 'EXECUTE')
    """
    return table, *connection.execute(rest, {"role": role}).fetchone()


@pytest.mark.parametrize("role", API_ROLES)
@pytest.mark.parametrize("regime", ["old"])
def test_the_old_regime_grants_all_privileges(new_objects, role):
    table, sequence, function = allowed(new_objects, role)
    assert len(table) == 7
    assert sequence
    assert function


@pytest.mark.parametrize("role", API_ROLES)
@pytest.mark.parametrize("regime", ["new"])
def test_the_new_regime_still_grants_execute_and_truncate(new_objects, role):
    table, sequence, function = allowed(new_objects, role)
    assert table == ["TRUNCATE", "REFERENCES", "TRIGGER"]
    assert not sequence
    assert function, "through PUBLIC, which default privileges of one schema cannot revoke"


@pytest.mark.parametrize("regime", ["old"])
def test_revoking_from_public_is_not_enough_under_the_old_regime(new_objects):
    new_objects.execute("revoke all on function public.deed() from public")
    assert allowed(new_objects, "anon")[2]


@pytest.mark.parametrize("regime", ["new"])
def test_revoking_from_public_is_enough_under_the_new_regime(new_objects):
    new_objects.execute("revoke all on function public.deed() from public")
    assert not allowed(new_objects, "anon")[2]


@pytest.mark.parametrize("regime", ["old", "new"])
def test_objects_in_another_schema_have_no_default_grants(new_objects):
    acls = """
        select (select relacl from pg_class where oid = 'usersync.thing'::regclass),
               (select proacl from pg_proc where oid = 'usersync.deed()'::regprocedure),
               has_schema_privilege('anon', 'usersync', 'USAGE')
    """
    assert new_objects.execute(acls).fetchone() == (None, None, False)
