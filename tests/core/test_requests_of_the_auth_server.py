"""In the auth server's transaction, a failure takes time only once, and no setting stays in the session."""

from __future__ import annotations

import uuid

import psycopg
import pytest

pytestmark = pytest.mark.newest_server


@pytest.fixture
def calls(sql):
    """Create a trigger on the users table that counts its calls in a sequence, which no rollback resets."""
    sql("create sequence public.calls")
    sql("grant usage on sequence public.calls to public")

    def make(body, when="before insert or update"):
        sql(
            "create function public.hook() returns trigger language plpgsql as "
            f"$f$ begin perform nextval('public.calls'); {body} end $f$;"
            f"create trigger hook {when} on {{users}} for each row execute function public.hook()"
        )

    def count():
        return sql("select case when is_called then last_value else 0 end from public.calls")[0][0]

    make.count = count
    return make


@pytest.mark.parametrize("kind", ["by e-mail", "by an admin"])
def test_a_trigger_that_raises_is_called_once_in_a_transaction(project, sql, sync_failures, calls, kind):
    calls("raise 'no';")
    auth = project.auth
    user = (
        auth.sign_up_email("ada@example.com") if kind == "by e-mail" else auth.admin_create("ada@example.com")
    )
    # The sign-in is a separate transaction, and changes no mirrored column.
    assert calls.count() == 1
    failure = sync_failures()[user]
    assert (failure.outcome, failure.sqlstate) == ("failed", "P0001")
    assert failure.raised_in.startswith("public.hook()")
    sql("drop function public.hook() cascade")
    project.client.reconcile()
    assert project.client.status().in_step
    assert sync_failures() == {}


def test_a_slow_trigger_that_raises_delays_a_sign_up_once(project, sync_failures, calls):
    calls("perform pg_sleep(0.2); raise 'no';")
    user = project.auth.sign_up_email("ada@example.com")
    assert calls.count() == 1
    assert sync_failures()[user].sqlstate == "P0001"


def test_a_working_trigger_is_called_once_for_each_user_and_change(project, calls):
    calls("return new;")
    user = project.auth.sign_up_email("ada@example.com")
    made = calls.count()
    assert project.row(user) is not None
    project.auth.sign_in(user)
    assert calls.count() == made
    project.auth.change_email(user, "lovelace@example.com")
    assert calls.count() == made + 1


@pytest.mark.slow
@pytest.mark.settings(budget_ms=300)
def test_no_row_is_tried_after_failed_attempts_used_up_the_budget(project, sql, sync_failures, calls):
    """The check is slow and fails. No trigger raises, so without the budget each user would be tried."""
    sql(
        "create function public.slowly(name text) returns boolean language plpgsql as "
        "$f$ begin perform nextval('public.calls'); perform pg_sleep(0.2); return false; end $f$"
    )
    sql("alter table {users} add constraint rule check (public.slowly({full_name})) not valid")
    with project.auth.request():
        users = [project.auth.sign_up_email(f"{n}@example.com") for n in range(4)]
    assert calls.count() <= 3
    assert set(sync_failures()) == set(users)
    assert {each.sqlstate for each in sync_failures().values()} == {"23514", "US003"}
    sql("alter table {users} drop constraint rule")
    project.client.reconcile()
    assert sync_failures() == {}
    assert project.client.status().in_step


@pytest.mark.slow
@pytest.mark.settings(budget_ms=300)
def test_successful_writes_do_not_use_up_the_budget(project, sync_failures, calls):
    calls("perform pg_sleep(0.01); return new;")
    project.auth.import_users(80)
    assert sync_failures() == {}
    assert project.client.status().in_step


@pytest.mark.settings(budget_ms=8000)
def test_an_import_that_violates_not_null_ends_within_the_budget(project, sql, sync_failures):
    """The search for the refused rows ends as soon as it is clear that all rows are refused."""
    sql("alter table {users} add column n integer not null default 1")
    sql("alter table {users} alter column n drop default")
    project.auth.connection.execute("set statement_timeout = '8s'")
    with project.auth.request():
        users = project.auth.import_users(4_000)
        spent = "select current_setting('usersync.spent_ms')::numeric"
        assert project.auth.connection.execute(spent).fetchone()[0] < 8000
    counted = "select sqlstate, column_name, count(*) from usersync.sync_failures group by 1, 2"
    assert sql(counted) == [("23502", "n", len(users))]
    sql("alter table {users} drop column n")
    project.client.reconcile()
    assert project.client.status().in_step


@pytest.mark.settings(on_delete="delete", on_soft_delete="delete", budget_ms=8000)
def test_a_bulk_deletion_that_a_foreign_key_prevents_ends_within_the_budget(project, sql, sync_failures):
    users = project.auth.import_users(2_000)
    sql("create table public.orders (user_id uuid references {users})")
    sql("insert into public.orders select {key} from {users}")
    project.auth.connection.execute("set statement_timeout = '8s'")
    project.auth.connection.execute("delete from auth.users")
    counted = "select sqlstate, count(*) from usersync.sync_failures group by 1"
    assert sql(counted) == [("23503", len(users))]


def test_a_time_out_that_a_trigger_sets_does_not_stay_in_the_pooled_connection(project, calls):
    calls("perform set_config('statement_timeout', '12345', false); return new;")
    connection = project.auth.connection
    before = connection.execute("show statement_timeout").fetchone()
    user = project.auth.sign_up_email("ada@example.com")
    assert project.row(user) is not None
    assert connection.execute("show statement_timeout").fetchone() == before


SEED = """
    create table public.parents (id int primary key);
    create table public.children (
        user_id uuid, parent int references public.parents deferrable initially deferred
    );
    create table public.notes (user_id uuid references {users} deferrable initially deferred)
"""


@pytest.mark.parametrize("first", ["user", "child"])
def test_a_seed_transaction_with_deferred_constraints_commits(project, sql, sync_failures, first):
    """The child row is inserted before its parent, and auth.users is written before or after the child."""
    sql(SEED)
    user = uuid.uuid4()
    steps = {
        "user": f"insert into auth.users (id, email) values ('{user}', 'ada@example.com')",
        "child": f"insert into public.children values ('{user}', 1)",
    }
    with project.database.connect("postgres", autocommit=False) as seed:
        seed.execute(steps.pop(first))
        seed.execute(*steps.values())
        seed.execute("update auth.users set email = 'lovelace@example.com'")
        seed.execute("insert into public.children values (null, 2)")
        seed.execute("insert into public.parents values (1), (2)")
        seed.commit()
    assert project.row(user)["email"] == "lovelace@example.com"
    assert sync_failures() == {}


def test_a_deferred_constraint_that_the_caller_violates_fails_its_commit(project, sql, sync_failures):
    sql(SEED)
    with project.database.connect("postgres", autocommit=False) as seed:
        seed.execute("insert into auth.users (id, email) values (gen_random_uuid(), 'ada@example.com')")
        seed.execute("insert into public.children values (null, 1)")
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            seed.commit()


CONTEXTS = {
    "German": """PL/pgSQL-Funktion public.hook() Zeile 1 bei RAISE
SQL-Anweisung »insert into {users} ("id")«
PL/pgSQL-Funktion usersync.write_full_rows(uuid[],boolean) Zeile 6 bei SQL-Anweisung""",
    "French": """fonction PL/pgSQL public.hook(), ligne 1 à RAISE
instruction SQL « insert into {users} ("id") »
fonction PL/pgSQL usersync.write_full_rows(uuid[],boolean), ligne 6 à instruction SQL""",
    "Russian": """функция PL/pgSQL public.hook(), строка 1, оператор RAISE
SQL-оператор: "insert into {users} ("id")"
функция PL/pgSQL usersync.write_full_rows(uuid[],boolean), строка 6, оператор SQL-оператор""",
}


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_the_raising_function_is_found_in_error_contexts_of_any_language(project, sql, context):
    context = context.replace("{users}", project.users)
    below = "select usersync.find_raising_function(%s)"
    assert sql(below, context)[0][0].startswith("public.hook()")
    assert sql(below, context.partition("\n")[2]) == [(None,)]
