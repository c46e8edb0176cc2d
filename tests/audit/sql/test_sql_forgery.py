"""Promise P7: API roles have no access to the audit log, with both kinds of default privileges."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.types.json import Jsonb
from sql_log import event, send

from audit_settings import with_audit_log
from fixtures_project import clone_installed
from usersync.audit.models import RecordResult
from usersync.audit.upkeep import retry_rejects
from usersync.transports.run import run

pytestmark = pytest.mark.key_types

ROLES = ("anon", "authenticated", "service_role", "authenticator")

TABLES = """
    select relid::regclass::text from pg_partition_tree('public.audit_logs')
    union all select 'usersync.audit_rejects'
"""

FUNCTIONS = """
    select oid::regprocedure::text from pg_proc
    where starts_with(obj_description(oid, 'pg_proc'), 'usersync: ')
"""


@pytest.fixture(params=["old", "new"])
def regime(request):
    return request.param


@pytest.fixture
def database(cluster, regime):
    database = clone_installed(cluster, with_audit_log(), regime=regime)
    yield database
    cluster.drop(database)


def allowed(connection, list_of_objects, question):
    """The roles and objects for which ``question`` is true."""
    ask = f"""
        select role, object from unnest(%s::text[]) as role, ({list_of_objects}) as every (object)
        where {question} order by 1, 2
    """
    return connection.execute(ask, [list(ROLES)]).fetchall()


def test_only_service_role_has_a_table_privilege_select_on_the_log(postgres):
    rights = "('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE'), ('REFERENCES'), ('TRIGGER')"
    held = allowed(
        postgres,
        f"select relation || ' ' || right_ from ({TABLES}) as t (relation), (values {rights}) as r (right_)",
        "has_table_privilege(role, split_part(object, ' ', 1), split_part(object, ' ', 2))",
    )
    assert held == [("service_role", "audit_logs SELECT")]


def test_only_service_role_can_execute_the_client_functions(postgres):
    held = allowed(postgres, FUNCTIONS, "has_function_privilege(role, object, 'EXECUTE')")
    assert ("service_role", "record_audit_events(jsonb)") in held
    assert {role for role, _ in held} == {"service_role"}
    assert not [function for _, function in held if function.startswith("usersync.")]


def test_no_role_has_privileges_on_the_schema(postgres):
    assert allowed(postgres, "values ('usersync')", "has_schema_privilege(role, object, 'USAGE')") == []
    assert allowed(postgres, "values ('usersync')", "has_schema_privilege(role, object, 'CREATE')") == []


ATTACKS = {
    "insert": "insert into public.audit_logs (id, occurred_at, action, outcome, actor_type, source)"
    " values (gen_random_uuid(), now(), 'forged', 'succeeded', 'user', 'app')",
    "update": "update public.audit_logs set actor_id = 'somebody else'",
    "delete": "delete from public.audit_logs",
    "truncate": "truncate public.audit_logs",
    "into a partition": "insert into usersync.audit_logs_default (id) values (gen_random_uuid())",
    "drop": "drop table public.audit_logs",
    "disable the trigger": "alter table public.audit_logs disable trigger all",
    "a trigger of one's own": "create trigger mine before insert on public.audit_logs for each row"
    " execute function auth.uid()",
    "read the rejects": "select * from usersync.audit_rejects",
    "store past the front door": "select usersync.store_event_batch('[]', true, true)",
    "store as usersync itself": "select usersync.record_own_events('[]')",
    "open maintenance": "set usersync.maintaining = 'audit'; delete from public.audit_logs",
}
READ, RECORD = "select * from public.audit_logs", 'select public.record_audit_events(\'[{"action": "a"}]\')'


@pytest.mark.parametrize("role", ROLES)
def test_attacks_by_api_roles_are_refused(database, postgres, role):
    postgres.execute("select public.record_audit_events(%s)", [Jsonb([{"action": "real"}])])
    meant = {READ, RECORD} if role == "service_role" else set()
    with database.connect(role) as connection:
        for attack in {*ATTACKS.values(), READ, RECORD} - meant:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(attack)
        for statement in meant:
            connection.execute(statement)
    recorded = postgres.execute("select count(*) from public.audit_logs").fetchone()
    assert recorded == (2 if meant else 1,)


#: The checks of Supabase's advisor that can apply to the audit log.
LINTS = {
    "0001 unindexed foreign keys": """
        select conname from pg_constraint join pg_partition_tree('public.audit_logs') on relid = conrelid
        where contype = 'f' and not exists (
            select from pg_index where indrelid = conrelid and (indkey::int2[])[0:0] = conkey)
    """,
    "0004 no primary key": f"""
        select relation from ({TABLES}) as t (relation)
        where not exists (select from pg_index where indrelid = relation::regclass and indisprimary)
    """,
    "0007 and 0008 policies and row-level security": f"""
        select relation from ({TABLES}) as t (relation) join pg_class on pg_class.oid = relation::regclass
        where relrowsecurity <> exists (select from pg_policy where polrelid = pg_class.oid)
    """,
    "0009 duplicate index": f"""
        select relation from ({TABLES}) as t (relation) join pg_index on indrelid = relation::regclass
        group by relation, indkey::text, indclass::text, pg_get_expr(indpred, indrelid) having count(*) > 1
    """,
    "0011 function search path mutable": """
        select proname from pg_proc where obj_description(oid, 'pg_proc') like 'usersync: %'
            and not coalesce(array_to_string(proconfig, ','), '') like '%search_path=%'
    """,
    "0013 row-level security disabled in public": f"""
        select relation from ({TABLES}) as t (relation) join pg_class on pg_class.oid = relation::regclass
        where relnamespace = 'public'::regnamespace and not relrowsecurity
    """,
}


@pytest.mark.parametrize("lint", LINTS)
def test_supabases_advisor_reports_no_problem(postgres, lint):
    assert postgres.execute(LINTS[lint]).fetchall() == []


FORGED = {
    "action": "products.deleted",
    "source": "trigger",
    "actor_id": "somebody",
    "metadata": {"db_role": "postgres", "kept": 1},
}


#: The session's login role, and the role that it has set.
SESSIONS = {"service_role": ("authenticator", "service_role"), "postgres": ("postgres", None)}


@pytest.mark.parametrize("role", SESSIONS)
@pytest.mark.parametrize("source", ["trigger", "sync"])
def test_no_caller_can_set_the_source_trigger(log, role, source):
    with log.project.database.connect(role) as client:
        assert send(client, event(**FORGED | {"source": source})) == (1, 0, 0)
    row = log.row()
    set_role = {"db_set_role": role} if role == "service_role" else {}
    assert (row["source"], row["metadata"]) == ("app", {"kept": 1, "claimed_source": source, **set_role})


@pytest.mark.parametrize("role", SESSIONS)
def test_an_event_has_the_role_of_its_session(log, role):
    with log.project.database.connect(role) as client:
        send(client, event(metadata={"db_role": "x", "db_set_role": "y"} if role == "service_role" else {}))
    row = log.row()
    assert (row["db_role"], row["metadata"].pop("db_set_role", None)) == SESSIONS[role]
    assert row["metadata"] == {}


def test_a_retried_event_does_not_get_the_source_that_it_claims(log):
    with log.project.database.connect("service_role") as client:
        assert send(client, event(**FORGED | {"outcome": "bad"})) == (0, 0, 1)
    log.owner.execute('update usersync.audit_rejects set event = event || \'{"outcome": "failed"}\'')
    assert run(retry_rejects(), log.owner) == RecordResult(stored=1)
    row = log.row()
    assert (row["source"], row["metadata"]["claimed_source"]) == ("app", "trigger")


def test_a_retried_event_of_a_trigger_keeps_its_source_and_role(log):
    log.owner.execute(
        "insert into usersync.audit_rejects (event, sqlstate, reason) values (%s, '23514', 'x')",
        [Jsonb(event(**FORGED | {"metadata": {"db_role": "ada", "role": "bob"}}))],
    )
    assert run(retry_rejects(), log.owner) == RecordResult(stored=1)
    row = log.row()
    assert (row["source"], row["db_role"], row["metadata"]) == ("trigger", "ada", {"role": "bob"})
