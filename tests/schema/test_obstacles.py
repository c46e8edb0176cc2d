"""Objects that prevent an installation: plan and apply report each with a fix, and change nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import psycopg
import pytest

from audit_settings import with_audit_log
from usersync import UserSync
from usersync.config.settings import parse_settings
from usersync.errors import ConflictError, PrivilegeMissingError
from usersync.schema import installation
from usersync.transports.run import run

pytestmark = pytest.mark.newest_server

HANDWRITTEN = """
    create table public.users (id uuid primary key, email text);
    create function public.handle_new_user() returns trigger language plpgsql security definer as $$
    begin insert into public.users (id, email) values (new.id, new.email); return new; end $$;
    create trigger on_auth_user_created after insert on auth.users
      for each row execute function public.handle_new_user();
    create trigger on_auth_user_updated after update on auth.users
      for each row execute function public.handle_new_user();
    create function public.sync_existing_auth_users() returns void language sql as
      'insert into public.users select id, email from auth.users on conflict do nothing';
"""

RUNS = "on auth.users is not usersync's: it runs public.handle_new_user()"

EMAIL = with_audit_log({"columns": {"email": "email"}})


def obstacles(installer, catalog, settings=EMAIL, kind=ConflictError) -> list[str]:
    """The errors of plan. apply raises the first one, and nothing is changed."""
    before = catalog()
    errors = installer.plan(settings).errors
    with pytest.raises(kind) as caught:
        installer.apply(settings)
    assert str(caught.value).startswith(errors[0].message)
    assert caught.value.hint == errors[0].hint
    assert catalog() == before
    return [error.message for error in errors]


def test_a_hand_written_trigger_is_explained_and_not_changed(installer, catalog):
    installer.connection.execute(HANDWRITTEN)
    assert obstacles(installer, catalog) == [
        (
            "the function public.sync_existing_auth_users() is not usersync's, and has the name of a "
            "function of usersync: a call whose arguments have no type may run it instead"
        ),
        f"the trigger on_auth_user_created {RUNS}",
        (
            "the trigger on_auth_user_updated on auth.users runs public.handle_new_user() after usersync's, "
            "and inserts the same row without ON CONFLICT, which fails"
        ),
    ]


def test_the_fixes_for_a_hand_written_trigger_work(installer, catalog):
    installer.connection.execute(HANDWRITTEN)
    obstacles(installer, catalog)
    fixes = [error.fix for error in installer.plan(EMAIL).errors]
    assert "alter function public.sync_existing_auth_users() rename to" in fixes[0]
    installer.connection.execute(fixes[0])
    installer.connection.execute(fixes[1].rpartition("with its function: ")[2])
    assert installer.plan(EMAIL).errors == ()
    installer.apply(EMAIL)


def test_handle_new_user_with_another_trigger_name_is_only_a_warning(installer):
    installer.connection.execute(
        "create function public.handle_new_user() returns trigger language plpgsql as 'begin return new; end'"
    )
    installer.connection.execute(
        "create trigger mine after insert on auth.users for each row execute function handle_new_user()"
    )
    planned = installer.apply(with_audit_log())
    (note,) = planned.findings
    assert note.level == "warning"
    assert "mine" in note.message
    assert "give it a name that sorts later" in note.hint


@pytest.mark.parametrize("arguments", ["", "uuid", "text"])
def test_a_function_with_a_name_of_usersync_is_a_conflict_with_any_arguments(installer, catalog, arguments):
    installer.connection.execute(
        f"create function public.ensure_user_exists({arguments}) returns text language sql as $$ select '' $$"
    )
    (message,) = obstacles(installer, catalog, with_audit_log())
    assert f"public.ensure_user_exists({arguments})" in message


def test_a_schema_named_usersync_is_a_conflict(installer, catalog):
    installer.connection.execute("create schema usersync; create table usersync.schema_version (n integer)")
    (message,) = obstacles(installer, catalog, with_audit_log())
    assert message == "a schema usersync exists that usersync did not create"


def test_a_missing_source_table_is_reported(installer, catalog):
    settings = with_audit_log({"source_table": "auth.people"})
    assert obstacles(installer, catalog, settings) == ["there is no table auth.people"]
    assert "source_table" in installer.plan(settings).errors[0].hint


def test_a_mapped_column_that_auth_users_lacks_is_reported(installer, catalog, superuser):
    superuser.execute("alter table auth.users drop column is_anonymous")
    assert obstacles(installer, catalog, with_audit_log()) == [
        "columns.is_anonymous: auth.users has no column is_anonymous"
    ]


def test_a_type_that_does_not_exist_is_reported(installer, catalog):
    columns = {"a": {"from": "email", "type": "integr"}, "b": {"from": "email", "type": "app.mood"}}
    assert obstacles(installer, catalog, with_audit_log({"columns": columns})) == [
        "columns.a.type: this database has no type integr",
        'columns.b.type: this database has no type "app"."mood"',
    ]


PARTLY_UNIQUE = (
    "create table public.users (id uuid, email text);"
    "create unique index on public.users (id) where email is not null"
)
USERS = [
    ("create view public.users as select 1 as id", ["public.users is not a table"]),
    ("create materialized view public.users as select 1 as id", ["public.users is not a table"]),
    ("create table public.users (email text)", ["public.users has no column id"]),
    (
        "create table public.users (id bigint primary key, email text)",
        ["public.users.id cannot be the key: a column of type bigint cannot hold ids of the auth server"],
    ),
    (
        "create table public.users (id varchar(20) primary key, email text)",
        ["public.users.id cannot be the key: character varying(20) is too short for ids of the auth server"],
    ),
    (
        "create table public.users (id char(40) primary key, email text)",
        ["public.users.id cannot be the key: character(40) must be character(36), the length of an id"],
    ),
    (
        "create table public.users (id text primary key, email text)",
        ["public.users.id is of type text, and key_type is uuid"],
    ),
    (
        "create table public.users (id uuid, email text)",
        ["public.users.id has no primary key or unique constraint"],
    ),
    (
        "create table public.users (id uuid, email text, primary key (id, email))",
        [
            "public.users.id is only one of the columns of the primary key (email, id): "  # noqa: ISC004 - one
            "a user may have several rows there, and usersync keeps one for each"
        ],
    ),
    (
        "create table public.users (id uuid unique deferrable, email text)",
        ["public.users.id has no primary key or unique constraint"],
    ),
    (
        PARTLY_UNIQUE,
        ["public.users.id has no primary key or unique constraint"],
    ),
    (
        "create table public.users (id uuid primary key)",
        ["public.users has no column email, which is mapped"],
    ),
    (
        "create table public.users (id uuid primary key, email text generated always as ('x') stored)",
        ["public.users.email is generated and cannot be mapped"],
    ),
    (
        "create table public.users (id uuid primary key, email integer)",
        ["columns.email: public.users.email is of type integer, and the source delivers text"],
    ),
    *(
        (
            "create table public.users (id uuid primary key, email text);"  # noqa: ISC004 - one
            f"create rule extra as on {event} to public.users do {action}",
            [
                f"public.users has a rule for {event} (extra). usersync does not support that: "  # noqa: ISC004 - one
                "PostgreSQL allows no INSERT with ON CONFLICT on such a table, so no missing row could be "
                "created and no change copied"
            ],
        )
        for event, action in [("INSERT", "instead nothing"), ("UPDATE", "also notify users_changed")]
    ),
]


@pytest.mark.parametrize(("table", "messages"), USERS, ids=lambda value: str(value)[:60])
def test_an_unsupported_users_table_is_explained(installer, catalog, table, messages):
    installer.connection.execute(table)
    assert obstacles(installer, catalog) == messages
    assert all(error.hint for error in installer.plan(EMAIL).errors)


PARTITIONED = (
    "create table public.users (id uuid primary key, email text) partition by hash (id);"
    "create table public.users_0 partition of public.users for values with (modulus 1, remainder 0)"
)


@pytest.mark.parametrize(
    "table",
    [
        "create table public.users (id uuid primary key, email text, nickname text default 'x', n int)",
        "create table public.users (email varchar(300), id uuid unique, at timestamptz default now())",
        "create table public.users (id uuid, email text); create unique index on public.users (id)",
        PARTITIONED,
        "create domain address as text; create table public.users (id uuid primary key, email address)",
    ],
)
def test_a_supported_users_table_is_used_unchanged(installer, catalog, database, table):
    installer.connection.execute(table)
    old = "insert into public.users (id, email) values (gen_random_uuid(), 'old@example.com')"
    installer.connection.execute(old)
    before = catalog()
    assert "create table public.users" not in installer.subjects(EMAIL)
    installer.apply(EMAIL)
    after = catalog()
    assert {key: value for key, value in after.items() if key in before} == before
    assert not [name for _, name in after.keys() - before.keys() if re.match(r"public\.users\b", name)]
    with database.connect("supabase_auth_admin") as auth:
        auth.execute("insert into auth.users (id, email) values (gen_random_uuid(), 'new@example.com')")
    rows = installer.connection.execute("select email from public.users order by 1").fetchall()
    assert rows == [("new@example.com",), ("old@example.com",)]


def test_a_timestamp_type_of_prisma_requires_no_setting(installer):
    """Prisma writes timestamp(6), which has PostgreSQL's default precision."""
    installer.connection.execute(
        "create table public.users (id uuid primary key, email text, deleted_at timestamp(6) with time zone, "
        "banned_until timestamp(3) with time zone)"
    )
    columns = {name: name for name in ("email", "deleted_at", "banned_until")}
    (error,) = installer.plan(with_audit_log({"columns": columns})).errors
    assert "banned_until is of type timestamp(3) with time zone" in error.message


@pytest.mark.parametrize("on_delete", ["delete", "anonymize"])
def test_a_rule_that_rewrites_deletions_is_a_warning(installer, on_delete):
    installer.connection.execute(
        "create table public.users (id uuid primary key, email text, deleted_at timestamptz);"
        "create rule softly as on delete to public.users do instead "
        "update public.users set deleted_at = now() where id = old.id"
    )
    settings = replace(EMAIL, on_delete=on_delete, on_soft_delete=on_delete)
    noted = [each for each in installer.apply(settings).findings if each.subject.startswith("rule ")]
    assert [each.level for each in noted] == (["warning"] if on_delete == "delete" else [])
    for each in noted:
        assert each.message == (
            "the rule softly on public.users rewrites each DELETE, also those of usersync "
            '(a setting is "delete")'
        )
        assert "DO INSTEAD UPDATE public.users SET deleted_at = now()" in each.hint


def test_a_not_null_column_without_a_value_prevents_the_installation(installer):
    installer.connection.execute(
        "create table public.users (id uuid primary key, email text, tenant text not null)"
    )
    with pytest.raises(ConflictError) as caught:
        installer.apply(EMAIL)
    assert "public.users.tenant is NOT NULL, has no default and is not mapped" in str(caught.value)
    assert "tenant = " in caught.value.hint
    assert not installer.connection.execute("select from pg_namespace where nspname = 'usersync'").rowcount


def test_a_not_null_column_without_a_value_does_not_prevent_an_upgrade(installer):
    installer.connection.execute("create table public.users (id uuid primary key, email text)")
    installer.apply(EMAIL)
    installer.connection.execute("alter table public.users add tenant text not null")
    (note,) = [each for each in installer.apply(EMAIL).findings if "NOT NULL" in each.message]
    assert note.level == "problem"


def test_a_column_that_a_trigger_on_auth_users_fills_is_a_warning(installer, auth):
    """A trigger that stays computes the value of a NOT NULL column, and creates each row."""
    installer.connection.execute("""
        create table public.users (id uuid primary key, email text, slug text not null);
        create function public.make_slug(email text) returns text language sql as 'select upper(email)';
        create function public.make() returns trigger language plpgsql security definer as $$ begin
            insert into public.users values (new.id, new.email, public.make_slug(new.email)); return new;
        end $$;
        create trigger make after insert on auth.users for each row execute function public.make();
    """)
    (note,) = [each for each in installer.apply(EMAIL).findings if "NOT NULL" in each.message]
    assert note.level == "warning"
    assert "only from the trigger make, and usersync cannot create a missing row" in note.message
    assert all(line.startswith("--") for line in note.fix.splitlines())
    auth.sign_up_email("ada@example.com")
    assert installer.connection.execute("select slug from public.users").fetchall() == [("ADA@EXAMPLE.COM",)]
    assert installer.connection.execute("select * from usersync.sync_failures").fetchall() == []


def test_a_cascading_foreign_key_is_reported(installer):
    installer.connection.execute(
        "create table public.users (id uuid primary key references auth.users on delete cascade, email text)"
    )
    assert any("users_id_fkey" in each.message for each in installer.apply(EMAIL).findings)
    settings = with_audit_log({"on_delete": "delete", "columns": {"email": "email"}})
    assert not any("users_id_fkey" in each.message for each in installer.plan(settings).findings)


@dataclass(frozen=True)
class Limited:
    """A role with the privileges that an installation requires, and no others."""

    name: str
    dsn: str

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.dsn, autocommit=True)


@pytest.fixture
def limited(superuser, database):
    # Roles belong to the whole server, and another test process may run the same test.
    login = f"Limited {database.name}"
    name = f'"{login}"'
    superuser.execute(f"create role {name} login password 'x' bypassrls")
    superuser.execute(
        f"grant create on database {database.name} to {name}; grant usage on schema auth to {name};"
        f"grant usage, create on schema public to {name}; grant all on auth.users to {name}"
    )
    yield Limited(name, psycopg.conninfo.make_conninfo(database.dsn(), user=login, password="x"))  # noqa: S106 - a throw-away role
    superuser.execute(
        f"drop schema if exists usersync cascade; drop owned by {name} cascade; drop role {name}"
    )


def test_another_role_than_postgres_can_install_if_it_has_the_privileges(limited, superuser):
    with limited.connect() as connection, UserSync(connection) as client:
        run(installation.apply(with_audit_log()), connection)
        superuser.execute("insert into auth.users (id, email) values (gen_random_uuid(), 'a@example.com')")
        assert client.status().in_step
        assert client.status().users == 1
        run(installation.rollback(with_audit_log(), drop_users_table=True, drop_audit_log=True), connection)


MISSING = {
    "revoke create on database {database} from {role}": "CREATE on database {database}",
    "revoke create on schema public from {role}, public": "CREATE on schema public",
    "revoke trigger on auth.users from {role}": "TRIGGER on table auth.users",
    "revoke select on auth.users from {role}": "SELECT on table auth.users",
    "revoke update on auth.users from {role}": "UPDATE on table auth.users",
    "alter role {role} nobypassrls": "BYPASSRLS (row-level security on auth.users would hide rows)",
    "create table public.users (id uuid primary key, email text); grant select on public.users to {role}": (
        "INSERT, UPDATE on table public.users"
    ),
    "create schema app; grant usage on schema app to {role}": "CREATE on schema app",
}


@pytest.mark.parametrize("taken", MISSING)
def test_each_missing_privilege_is_reported(limited, database, superuser, catalog, taken):
    settings = with_audit_log({"users_table": "app.users"}) if "app" in taken else EMAIL
    superuser.execute(taken.format(database=database.name, role=limited.name))
    before = catalog()
    with limited.connect() as connection:
        errors = run(installation.plan(settings), connection).errors
        with pytest.raises(PrivilegeMissingError) as caught:
            run(installation.apply(settings), connection)
    wanted = f"role {limited.name} lacks {MISSING[taken].format(database=database.name)}".replace('"', "")
    assert wanted in [error.message.replace('"', "") for error in errors]
    assert caught.value.hint
    assert catalog() == before


def test_a_schema_without_the_usage_privilege_is_reported(limited, superuser):
    superuser.execute(f"revoke usage on schema auth from {limited.name}")
    with limited.connect() as connection:
        for attempt in (installation.plan, installation.apply):
            with pytest.raises(PrivilegeMissingError, match="schema auth") as caught:
                run(attempt(with_audit_log()), connection)
            assert "USAGE" in caught.value.hint


def test_values_that_the_first_run_overwrites_are_counted_for_typed_columns(installer, auth):
    user = auth.sign_up_email(data={"age": 36})
    invalid = auth.sign_up_email(data={"age": "old"})
    installer.connection.execute("create table public.users (id uuid primary key, age integer)")
    for each in (user, invalid):
        installer.connection.execute("insert into public.users values (%s, 1)", [each])
    settings = with_audit_log({"columns": {"age": {"from": "user_metadata.age", "type": "integer"}}})
    (note,) = [each for each in installer.plan(settings).findings if "first run" in each.message]
    if installer.connection.info.server_version >= 160000:
        assert "overwrite values in 2 (age in 2)" in note.message
    else:
        assert "cannot be counted" in note.message


@pytest.mark.parametrize(
    ("column", "advice"),
    [
        ("email text not null", 'give the column a default in [columns] (default = …), skip them (skip = ["'),
        (
            "email text not null unique",
            'To change this, skip them (skip = ["without_email"]), or drop NOT NULL',
        ),
    ],
)
def test_a_default_is_not_advised_for_a_unique_column(installer, column, advice):
    """Only one row of the table can have the default. The next one fails with 23505."""
    installer.connection.execute(f"create table public.users (id uuid primary key, {column})")
    (found,) = [
        each
        for each in installer.plan(with_audit_log({"columns": {"email": "email"}})).findings
        if "email can be absent" in each.message
    ]
    assert advice in found.fix


def test_a_misspelt_name_of_the_users_table_is_reported(installer):
    installer.connection.execute("create table public.users (id uuid primary key, email text)")
    no_schema = installer.plan(parse_settings({"users_table": "publik.users"}))
    assert "schema publik does not exist" in no_schema.errors[0].message
    near = installer.plan(parse_settings({"users_table": "public.user"}))
    assert any("public.users" in each.message for each in near.findings)


def test_a_not_null_column_that_some_users_leave_empty_is_reported(installer):
    installer.connection.execute("create table public.users (id uuid primary key, email text not null)")
    planned = installer.plan(parse_settings({"columns": {"email": "email"}}))
    assert any("email is NOT NULL" in each.message for each in planned.findings)
