"""P3: after a run each row is in sync or has a sync failure, and a second run writes nothing."""

from __future__ import annotations

import uuid

import psycopg
import pytest

from usersync.models import Counts

pytestmark = pytest.mark.key_types


@pytest.fixture
def rows(sql):
    """Every row of the users table, with its ctid and the transaction that wrote it."""
    return lambda: sql("select ctid::text, xmin::text, u::text from {users} as u order by 1")


#: The log has a foreign key to the users, so TRUNCATE … CASCADE includes it, and requires this setting.
ALLOW_TRUNCATE_OF_LOG = "set usersync.maintaining = 'audit'"

NORMALISE = """
    create function public.hook() returns trigger language plpgsql as $$ begin
      new.{full_name} := lower(new.{full_name}); return new; end $$;
    create trigger hook before insert or update on {users} for each row execute function public.hook()
"""


def test_a_run_syncs_stale_and_missing_rows_and_keeps_rows_of_deleted_users(
    project, sql, rows, unmirrored, sync_failures
):
    same, stale, missing, gone, soft = (
        project.auth.sign_up_email(f"{n}@example.com", data={"name": n}) for n in "abcde"
    )
    unmirrored("update auth.users set email = 'new@example.com', phone = '1' where id = %s", stale)
    unmirrored("delete from auth.users where id = %s", gone)
    unmirrored("update auth.users set deleted_at = now(), email = 'hash' where id = %s", soft)
    sql("delete from {users} where {key} = %s", missing)
    kept = [row for row in rows() if str(same) in row[2]]

    found = {each.user_id: each for each in project.client.reconcile(dry_run=True).differences}
    assert {user: each.difference for user, each in found.items()} == {
        stale: "stale", missing: "missing", gone: "orphaned", soft: "deleted_upstream"
    }  # fmt: skip
    assert found[stale].columns == (project.columns["email"], project.columns["phone"])

    result = project.client.reconcile()
    assert (result.synced, result.errors) == (2, 0)
    assert (result.counts.orphaned, result.counts.deleted_upstream) == (1, 1)
    assert project.row(stale)["email"] == "new@example.com"
    assert project.row(missing)["email"] == "c@example.com"
    assert project.row(gone)["email"] == "d@example.com"
    assert project.row(soft)["email"] == "e@example.com"
    assert not project.client.status().in_step
    assert project.client.remove_orphans(limit=1).removed == 1
    assert project.client.apply_deletions(limit=1).removed == 1
    assert project.row(gone)["email"] is project.row(soft)["email"] is None
    assert project.client.status().in_step
    after = rows()
    assert set(kept) <= set(after)
    assert project.client.reconcile().counts.differing == 0
    assert rows() == after


def test_a_second_run_does_not_write_rows_that_the_table_refuses(project, sql, rows, sync_failures):
    degraded, failed = (project.auth.sign_up_email(f"{n}@example.com", data={"name": n}) for n in "ab")
    sql("delete from {users}")
    sql(f"alter table {{users}} add constraint rule check ({{email}} <> 'a@example.com'),"
        f" add constraint nobody check ({{key}} <> '{failed}')")  # fmt: skip
    result = project.client.reconcile()
    assert (result.counts.degraded, result.counts.failed) == (1, 1)
    assert (sync_failures()[degraded].constraint, sync_failures()[failed].constraint) == ("rule", "nobody")
    before = rows()
    project.client.reconcile()
    assert rows() == before
    assert sync_failures()[failed].attempts == 2
    sql("alter table {users} drop constraint rule, drop constraint nobody")
    assert project.client.retry().errors == 0
    assert project.client.status().in_step


def test_a_trigger_that_normalises_a_value_is_a_sync_failure(project, sql, rows, sync_failures, unmirrored):
    sql(NORMALISE)
    shouting = project.auth.sign_up_email("a@example.com", data={"name": "ADA"})
    project.auth.sign_up_email("b@example.com", data={"name": "bob"})
    project.client.reconcile()
    assert {user: each.sqlstate for user, each in sync_failures().items()} == {shouting: "US001"}
    assert sync_failures()[shouting].column == project.columns["full_name"]
    before, noted = rows(), sync_failures()
    project.client.reconcile()
    assert (rows(), sync_failures()) == (before, noted)
    # A new value is tried again, and so is a changed trigger.
    unmirrored('update auth.users set raw_user_meta_data = \'{"name": "LOVELACE"}\' where id = %s', shouting)
    project.client.reconcile()
    assert project.row(shouting)["full_name"] == "lovelace"
    assert sync_failures()[shouting].sqlstate == "US001"
    assert project.client.retry().errors == 1
    assert sync_failures()[shouting].sqlstate == "US001"
    sql(
        "create or replace function public.hook() returns trigger language plpgsql as 'begin return new; end'"
    )
    project.client.reconcile()
    assert sync_failures() == {}
    assert project.row(shouting)["full_name"] == "LOVELACE"


def test_sync_existing_auth_users_syncs_one_page_or_all_users(project, sql):
    project.auth.import_users(25)
    sql("delete from {users}")
    ((first,),) = sql("select public.sync_existing_auth_users(page_size => 10)")
    assert (first["synced"], first["errors"], first["examined"]) == (10, 0, 10)
    ((second,),) = sql("select public.sync_existing_auth_users(%s, 10)", first["next_id"])
    assert second["next_id"] > first["next_id"]
    ((last,),) = sql("SELECT public.sync_existing_auth_users()")
    assert last == {
        "synced": 5, "errors": 0, "examined": 25, "orphaned": 0, "deleted_upstream": 0, "next_id": None
    }  # fmt: skip
    with pytest.raises(psycopg.Error, match="at least 1"):
        sql("select public.sync_existing_auth_users(page_size => 0)")


@pytest.mark.parametrize("page_size", [1, 7, 40])
def test_pages_of_any_size_examine_each_user_once(project, sql, page_size):
    ids = project.auth.import_users(40)
    sql("delete from {users} where {key} = any(%s)", ids[::2])
    result = project.client.reconcile(page_size=page_size, workers=1)
    assert (result.counts.examined, result.counts.missing) == (40, 20)
    assert project.client.status().in_step


def test_the_tables_are_in_sync_after_auth_users_is_truncated_and_restored(
    project, rows, superuser_of, unmirrored
):
    users = project.auth.import_users(30)
    with superuser_of.cursor() as cursor:
        cursor.execute("create table public.kept as select * from auth.users")
        cursor.execute("alter table public.kept drop column confirmed_at")
        cursor.execute(ALLOW_TRUNCATE_OF_LOG)
        cursor.execute("truncate auth.users cascade")
    assert project.client.reconcile().counts == Counts(examined=30, orphaned=30)
    (names,) = superuser_of.execute(
        "select string_agg(quote_ident(attname), ', ') from pg_attribute"
        " where attrelid = 'public.kept'::regclass and attnum > 0 and not attisdropped"
    ).fetchone()
    before = rows()
    unmirrored(f"insert into auth.users ({names}) select {names} from public.kept")
    assert project.client.status().in_step
    assert rows() == before
    superuser_of.execute(f"truncate auth.users cascade; truncate {project.users} cascade")
    unmirrored(f"insert into auth.users ({names}) select {names} from public.kept")
    assert project.client.reconcile().counts.missing == 30
    assert project.client.status().in_step
    assert project.row(users[0])["email"] == "user-1@import.example.com"


@pytest.mark.key_types("uuid")  # A foreign key to the auth server's table requires the same type.
@pytest.mark.settings(audit={"enabled": True})
def test_truncate_cascade_of_auth_users_requires_permission_to_empty_the_log(project, sql, superuser_of):
    sql("alter table {users} add foreign key ({key}) references auth.users (id) on delete cascade")
    project.auth.import_users(3)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only: TRUNCATE") as refused:
        sql("truncate auth.users cascade")
    assert "usersync.maintaining" in refused.value.diag.message_hint
    assert project.client.status().users == 3
    sql(ALLOW_TRUNCATE_OF_LOG)
    sql("truncate auth.users cascade")
    assert project.client.status().users == 0
    project.auth.import_users(3)
    assert project.client.status().in_step


def test_empty_tables_and_an_unknown_user_raise_no_error(project, sql):
    assert project.client.reconcile().counts.examined == 0
    unknown = uuid.uuid4()
    assert project.client.ensure_user_exists(unknown) is False
    sql("insert into {users} ({key}, {email}) values (%s, 'left@example.com')", unknown)
    project.client.reconcile()
    assert project.row(unknown)["email"] == "left@example.com"
    assert project.client.status().orphaned == 1
