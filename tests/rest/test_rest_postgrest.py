"""The client against a real PostgREST: keys, privileges, statement timeouts, and missing objects."""

from __future__ import annotations

import pytest

from postgrest_server import SECRET_KEY, SERVICE_KEY, mint
from usersync import DataApi, UserSync
from usersync.core.users import failures
from usersync.errors import (
    ApiKeyError,
    DatabaseError,
    NeedsDatabaseError,
    NotInstalledError,
    PrivilegeMissingError,
)
from usersync.transports.steps import query

pytestmark = pytest.mark.newest_server


@pytest.fixture
def sync(api):
    with UserSync(api) as sync:
        yield sync


def slow_writes(project, seconds: float, only: str = "") -> None:
    """Make each write to the users table slow, as an application's trigger may do."""
    project.owner.execute(
        f"create or replace function public.slow() returns trigger language plpgsql as "
        f"$$ begin perform pg_sleep({seconds}); return new; end $$"
    )
    project.owner.execute(
        f"create trigger slow before insert or update on {project.users} "
        "for each row execute function public.slow()"
    )


def limit_time(project, milliseconds: int) -> None:
    """Supabase limits statements of the Data API's role to eight seconds. Tests use a shorter limit."""
    with project.database.connect("supabase_admin") as superuser:
        superuser.execute(
            f'alter role authenticator in database "{project.database.name}" '
            f"set statement_timeout = {milliseconds}"
        )


@pytest.fixture
def sync_later(serve, project):
    """A function that starts an API and a client. PostgREST reads the role's settings when it connects."""
    clients = []

    def make():
        clients.append(UserSync(DataApi(serve(project.database).url, SECRET_KEY)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.mark.parametrize("key", [SECRET_KEY, SERVICE_KEY], ids=["secret", "service-role"])
def test_a_service_role_key_is_sent_as_a_bearer_token_and_a_secret_key_is_not(project, gateway, key):
    user = project.auth.sign_up_email("ada@example.com")
    with UserSync(DataApi(gateway.url, key)) as sync:
        assert sync.user_exists(user)
    ((_, headers),) = gateway.seen
    assert headers["apikey"] == key
    assert headers.get("authorization") == (None if key == SECRET_KEY else f"Bearer {key}")


def test_the_error_for_an_unknown_key_has_the_servers_message(gateway):
    forged = mint(role="service_role")[:-3] + "AAA"
    for key in ("sb_secret_another-one-that-was-revoked", forged):
        with UserSync(DataApi(gateway.url, key)) as sync, pytest.raises(ApiKeyError, match="refuses the key"):
            sync.status()


def test_a_missing_privilege_is_named(project, sync):
    project.owner.execute("revoke execute on function public.user_sync_status() from service_role")
    with pytest.raises(PrivilegeMissingError, match="permission denied for function user_sync_status"):
        sync.status()


def test_the_error_without_usersync_in_the_database_says_so(database, serve):
    with (
        UserSync(DataApi(serve(database).url, SECRET_KEY)) as sync,
        pytest.raises(NotInstalledError) as caught,
    ):
        sync.status()
    assert "usersync apply" in caught.value.hint


def test_the_error_names_the_schema_that_the_api_does_not_serve(project, serve):
    project.owner.execute("create schema api; grant usage on schema api to anon, service_role")
    gateway = serve(project.database, PGRST_DB_SCHEMAS="api")
    with (
        UserSync(DataApi(gateway.url, SECRET_KEY)) as sync,
        pytest.raises(NeedsDatabaseError, match="public"),
    ):
        sync.status()


def test_public_may_be_any_of_the_served_schemas(project, serve):
    project.owner.execute("create schema api; grant usage on schema api to anon, service_role")
    gateway = serve(project.database, PGRST_DB_SCHEMAS="api,public")
    with UserSync(DataApi(gateway.url, SECRET_KEY)) as sync:
        assert sync.status().in_step


def test_an_operation_that_requires_a_connection_raises(sync):
    with pytest.raises(NeedsDatabaseError) as caught:
        sync._transport.run(query("select 1"))
    assert "SUPABASE_DB_URL" in caught.value.hint
    assert sync._transport.run(failures()) == []


@pytest.mark.slow
def test_pages_that_time_out_are_halved_until_they_succeed(project, sync_later, insert_without_triggers):
    insert_without_triggers(12)
    slow_writes(project, 0.05)
    limit_time(project, 400)
    result = sync_later().reconcile(page_size=12)
    assert (result.counts.missing, result.errors) == (12, 0)
    assert project.client.status().in_step


@pytest.mark.slow
def test_a_status_that_times_out_is_counted_page_by_page(project, sync_later, insert_without_triggers):
    insert_without_triggers(30)
    whole = project.client.status()
    project.owner.execute(
        "create or replace function public.user_sync_status() returns jsonb language plpgsql "
        "security definer as $$ begin perform pg_sleep(20); return '{}'; end $$"
    )
    limit_time(project, 400)
    assert sync_later().status() == whole


@pytest.mark.slow
def test_a_page_that_times_out_at_every_size_raises_with_a_hint(project, sync_later, insert_without_triggers):
    insert_without_triggers(1)
    slow_writes(project, 20)
    limit_time(project, 200)
    with pytest.raises(DatabaseError, match="57014") as caught:
        sync_later().reconcile(page_size=4)
    assert "8 s" in caught.value.hint


@pytest.mark.key_types
def test_user_methods_work_with_every_key_type(project, sync, delete_without_triggers):
    user, other = (project.auth.sign_up_email(f"{name}@example.com") for name in ("ada", "bob"))
    key = f'"{project.settings.key}"'
    project.owner.execute(f"delete from {project.users} where {key} = %s", [user])
    assert not sync.user_exists(user)
    assert sync.status().missing == 1
    assert sync.ensure_user_exists(user)
    project.owner.execute(f"delete from {project.users} where {key} = %s", [other])
    counts = sync.reconcile().counts
    assert (counts.missing, counts.stale, counts.orphaned) == (1, 0, 0)
    delete_without_triggers(other)
    assert sync.status().orphaned == 1
    assert sync.remove_orphans(limit=1).removed == 1
    assert sync.status().in_step
