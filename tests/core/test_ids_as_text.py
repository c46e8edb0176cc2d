"""Keys that hold the auth server's id as text: which rows belong to users, and whether the index is used."""

from __future__ import annotations

import psycopg
import pytest

from fixtures_project import add_citext
from hooks_skips import skip_without
from usersync import UserSync
from usersync.config.settings import parse_settings
from usersync.doctor import choose, examine
from usersync.errors import ConflictError
from usersync.schema import installation
from usersync.testing.install import install
from usersync.transports.run import run

#: Keys that are not ids of users: Prisma's, an empty one, malformed UUIDs, upper case, other notations.
OTHER_KEYS = (
    "clx0a1b2c3d4e5f6g7h8i9j0k",
    "",
    "ffffffff-ffff-ffff-ffff-fffffffffffg",
    "11111111-1111-4111-8111-11111111111",
    "11111111-1111-4111-8111-111111111111\n",
    "AAAAAAAA-AAAA-4AAA-8AAA-AAAAAAAAAAAA",
    "{11111111-1111-4111-8111-111111111111}",
    "11111111111141118111111111111111",
)

TEXT = parse_settings({"key_type": "text"})


def plan_of(settings, connection):
    return [each.message for each in run(installation.plan(settings), connection).errors]


@pytest.fixture
def installed(database, postgres, auth):
    """Create a users table with this key, install usersync, and return a client."""
    clients = []

    def make(column, key_type, **more):
        postgres.execute(f"create table public.users (id {column}, email text)")
        settings = parse_settings({"key_type": key_type, "columns": {"email": "email"}, **more})
        install(database, settings)
        clients.append(UserSync(database.dsn()))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.mark.slow
@pytest.mark.parametrize("on_delete", ["anonymize", "delete"])
def test_a_row_whose_key_is_not_a_user_id_is_never_changed(installed, postgres, auth, on_delete):
    client = installed("text primary key", "text", on_delete=on_delete)
    gone, stays = (auth.sign_up_email(f"{name}@example.com") for name in ("gone", "stays"))
    for key in OTHER_KEYS:
        postgres.execute("insert into public.users values (%s, 'x@example.com')", [key])
    orphan = "11111111-1111-4111-8111-111111111111"
    postgres.execute("insert into public.users values (%s, 'x@example.com')", [orphan])
    other_rows = "select id, email, xmin::text from public.users where id <> all(%s) order by id"
    known = [str(gone), str(stays), orphan]
    before = postgres.execute(other_rows, [known]).fetchall()
    assert len(before) == len(OTHER_KEYS)

    status = client.status()
    assert (status.users, status.auth_users, status.orphaned) == (3, 2, 1)
    postgres.execute("update public.users set email = 'old' where id = %s", [str(stays)])
    counts = client.reconcile(page_size=1, workers=3).counts
    assert (counts.stale, counts.missing, counts.orphaned) == (1, 0, 1)
    auth.soft_delete(gone)
    assert client.remove_orphans(limit=10).removed == 1
    client.apply_deletions(limit=10)
    client.reconcile()
    client.retry()
    assert client.status().in_step
    assert postgres.execute(other_rows, [known]).fetchall() == before


KEYS = {
    "text": ("text primary key", "text"),
    "varchar": ("varchar unique", "varchar"),
    "varchar(191)": ("varchar(191) primary key", "varchar(191)"),
    "char(36)": ("char(36) primary key", "char(36)"),
    "the collation C": ('text collate "C" primary key', "text"),
    "a case-insensitive collation": ("text collate public.caseless primary key", "text"),
}
READ = (
    "select seq_tup_read, idx_tup_fetch from pg_stat_xact_all_tables where relid = 'public.users'::regclass"
)


@pytest.fixture
def caseless(superuser):
    """A case-insensitive collation."""
    try:
        superuser.execute(
            "create collation public.caseless "
            "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    except psycopg.errors.FeatureNotSupported:
        skip_without("ICU")


@pytest.fixture
def installed_key(installed, request):
    if "caseless" in request.param[0]:
        request.getfixturevalue("caseless")
    return installed(*request.param)


@pytest.mark.slow
@pytest.mark.parametrize("installed_key", KEYS.values(), ids=KEYS, indirect=True)
def test_the_index_on_the_key_is_used_for_each_key_type(installed_key, postgres, superuser, auth):
    client = installed_key
    ids = auth.import_users(2_000)
    assert client.status().in_step
    with superuser.transaction(force_rollback=True):
        superuser.execute("update public.users set email = 'old'")
        scanned, fetched = superuser.execute(READ).fetchone()
        superuser.execute("select usersync.sync_users(%s, null, true)", [ids[:5]])
        superuser.execute("select usersync.user_exists(%s), public.ensure_user_exists(%s)", [ids[7], ids[8]])
        superuser.execute("select usersync.reconcile_page(%s, %s, 100, true)", [min(ids), max(ids)])
        after = superuser.execute(READ).fetchone()
        assert after[0] == scanned
        assert after[1] - fetched < 500
    postgres.execute("delete from public.users where email like '%%1@%%'")
    postgres.execute("update public.users set email = 'old' where email like '%%2@%%'")
    counts = client.reconcile(page_size=100).counts
    assert (counts.missing, counts.stale, counts.orphaned) == (200, 200, 0)
    assert client.status().in_step


@pytest.mark.slow
def test_an_id_in_upper_case_prevents_the_installation_and_is_reported(postgres, auth, database):
    """The Swift client writes ids in upper case."""
    settings = parse_settings({"key_type": "text", "columns": {"email": "email"}})
    user = auth.sign_up_email("ada@example.com")
    postgres.execute("create table public.users (id text primary key, email text)")
    postgres.execute("insert into public.users values (upper(%s::text)), ('V1StGXR8_Z5jdHi6B-myT')", [user])
    (message,) = plan_of(settings, postgres)
    assert message.startswith("public.users holds 1 id of auth users in upper case: usersync compares ids in")
    with pytest.raises(ConflictError, match="in upper case"):
        install(database, settings)
    (finding,) = run(installation.plan(settings), postgres).errors
    (update,) = [
        line.removeprefix("-- ") for line in finding.fix.splitlines() if line.startswith("-- update ")
    ]
    assert all(line.startswith("--") for line in finding.fix.splitlines()), "a pasted fix overwrites nothing"
    assert postgres.execute(update).rowcount == 1
    install(database, settings)
    keys = postgres.execute("select id from public.users").fetchall()
    assert set(keys) == {(str(user),), ("V1StGXR8_Z5jdHi6B-myT",)}


def test_a_collation_with_another_sort_order_of_ids_is_rejected(postgres, superuser):
    """Danish sorts aa after z."""
    if not postgres.execute("select from pg_collation where collname = 'da-x-icu'").rowcount:
        skip_without("ICU")
    postgres.execute('create table public.users (id text collate "da-x-icu" primary key, email text)')
    settings = parse_settings({"key_type": "text", "columns": {"email": "email"}})
    (message,) = plan_of(settings, postgres)
    assert 'public.users.id has the collation pg_catalog."da-x-icu", which sorts ids' in message
    (finding,) = run(installation.plan(settings), postgres).errors
    postgres.execute(finding.fix)
    assert plan_of(settings, postgres) == []


@pytest.mark.slow
def test_a_key_type_that_differs_from_the_settings_is_rejected(postgres, database, auth):
    postgres.execute("create table public.users (id varchar(36) primary key, email text)")
    columns = {"columns": {"email": "email"}, "audit": {"enabled": True}}
    (finding,) = run(installation.plan(parse_settings({**columns, "key_type": "text"})), postgres).errors
    assert finding.message == "public.users.id is of type character varying(36), and key_type is text"
    assert finding.hint.endswith("key_type = 'character varying(36)'")
    install(database, parse_settings({**columns, "key_type": "character varying(36)"}))
    user = auth.sign_up_email("ada@example.com")
    record = (
        "select public.record_audit_events(jsonb_build_array(jsonb_build_object('id', gen_random_uuid(), "
        "'occurred_at', now(), 'action', 'a.b', 'actor_id', %s::text)))"
    )
    postgres.execute(record, [user])
    # A migration of the application changes the type. Sign-ups continue, and plan names the setting.
    postgres.execute("alter table public.audit_logs drop constraint audit_logs_user_id_fkey")
    postgres.execute("alter table public.users alter column id type uuid using id::uuid")
    auth.sign_up_email("bob@example.com")
    (message,) = plan_of(parse_settings({**columns, "key_type": "varchar(36)"}), postgres)
    assert message == "public.users.id is of type uuid, and key_type is character varying(36)"
    settings = parse_settings(columns)
    install(database, settings)
    with UserSync(database.dsn()) as client:
        client.reconcile()
        assert client.status().in_step
        assert client.user_exists(user)
    # Events are recorded without a foreign key to the users table. The fix of D025 creates it again.
    postgres.execute(record, [user])
    (check,) = run(examine(settings, choose(["D025"])), postgres)
    postgres.execute(check.findings[0].fix)
    (check,) = run(examine(settings, choose(["D025"])), postgres)
    assert check.status == "ok"
    links = postgres.execute("select pg_typeof(user_id)::text, user_id from public.audit_logs").fetchall()
    assert links == [("uuid", user)] * 2


def test_a_citext_key_in_upper_case_is_a_sync_failure_that_names_the_cause(
    database, postgres, auth, superuser
):
    add_citext(database)
    settings = parse_settings({"key_type": '"ext""ensions".citext', "columns": {"email": "email"}})
    postgres.execute('create table public.users (id "ext""ensions".citext primary key, email text)')
    install(database, settings)
    user = auth.sign_up_email("ada@example.com")
    with UserSync(database.dsn()) as client:
        # With citext, a key in upper case conflicts with the user's own row.
        postgres.execute("update public.users set id = upper(id::text)")
        client.reconcile()
        (failure,) = client.failures()
        assert (failure.user_id, failure.sqlstate) == (user, "US002")
        assert "its key is in upper case" in failure.message
        (message,) = plan_of(settings, postgres)
        assert message.startswith("public.users holds 1 id of auth users in upper case")
        postgres.execute("update public.users set id = lower(id::text)")
        client.reconcile()
        assert not client.failures()
        assert client.status().in_step
