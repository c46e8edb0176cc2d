"""``usersync init``: the detected table and columns, the written settings file, and no other change."""

from __future__ import annotations

import pytest
from psycopg.types.json import Jsonb
from terminal import Terminal

from usersync.config.settings import load_settings, parse_settings
from waiting import give_up_soon

pytestmark = pytest.mark.newest_server

USERS = "create table public.users (id uuid primary key references auth.users on delete cascade, email text)"


@pytest.fixture
def dsn(database, monkeypatch):
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn())
    return database.dsn()


@pytest.fixture
def proposed(usersync, dsn, directory):
    """A function that returns the proposal as JSON. Checks that the file has the same settings."""

    def call(*arguments, code=0):
        done = usersync("init", "--json", "--force", *arguments)
        assert done.code == code, done.out
        data = done.json
        assert load_settings(directory / "usersync.toml") == parse_settings(data["settings"])
        assert (directory / "usersync.toml").read_text() == data["toml"]
        return data

    return call


def entries(data):
    return {each["name"]: each["entry"] for each in data["columns"]}


def about(data, name):
    return next(each for each in data["columns"] if each["name"] == name)


def test_init_explains_writes_the_file_and_changes_no_object(usersync, dsn, directory, postgres, catalog):
    postgres.execute(
        USERS + "; create table public.orders (id int primary key, buyer uuid references public.users)"
    )
    before = catalog()
    done = usersync("init")
    assert done.code == 0
    assert catalog() == before
    assert "public.users" in done.out
    assert "refers to auth.users, on delete cascade" in done.out
    assert "public.orders (buyer)    on delete no action" in done.out
    assert done.out.splitlines()[-1].split() == ["Next:", "usersync", "plan"]
    assert all(len(line) <= 80 for line in done.out.splitlines())
    settings = load_settings(directory / "usersync.toml")
    assert (str(settings.users_table), settings.on_delete) == ("public.users", "delete")
    assert usersync("plan").code == 0


def test_an_existing_file_is_not_overwritten_without_consent(usersync, dsn, directory, postgres):
    postgres.execute(USERS)
    path = directory / "usersync.toml"
    path.write_text("# mine\n")
    for arguments in ([], ["--yes"], ["--json"]):
        done = usersync("init", *arguments)
        assert done.code == 2
        assert "usersync.toml already exists" in done.err + done.out
    assert usersync("init", "--stdout").code == 0
    assert path.read_text() == "# mine\n"
    assert usersync("init", "--config", "other.toml").code == 0
    assert load_settings(directory / "other.toml").on_delete == "delete"
    assert usersync("init", "--force").code == 0
    assert load_settings(path).on_delete == "delete"


@pytest.mark.parametrize("answer", ["n", "y"])
def test_on_a_terminal_init_asks_before_it_overwrites(dsn, directory, postgres, answer):
    postgres.execute(USERS)
    path = directory / "usersync.toml"
    path.write_text("# mine\n")
    with Terminal("init") as terminal:
        terminal.wait_for("Create an audit log (public.audit_logs)? [y/N]:")
        terminal.type("n\n")
        terminal.wait_for("Overwrite usersync.toml? [y/N]")
        terminal.type(f"{answer}\n")
        assert terminal.end() == (0 if answer == "y" else 1)
    assert (path.read_text() == "# mine\n") == (answer == "n")


def test_with_stdout_only_the_file_is_printed(usersync, dsn, directory, postgres):
    postgres.execute(USERS)
    done = usersync("init", "--stdout")
    (directory / "piped.toml").write_text(done.out)
    assert load_settings(directory / "piped.toml").on_delete == "delete"
    assert "Columns" in done.err
    assert not (directory / "usersync.toml").exists()


SEVERAL = f"{USERS}; create table public.profiles (id uuid primary key references auth.users, mail text)"


@pytest.mark.slow
def test_on_a_terminal_init_asks_about_several_tables(usersync, dsn, directory, postgres):
    postgres.execute(SEVERAL)
    with Terminal("init") as terminal:
        terminal.wait_for("Which one holds your users? [1]")
        assert "2.  public.profiles" in terminal.text
        terminal.type("2\n")
        terminal.wait_for("Create an audit log (public.audit_logs)? [y/N]:")
        terminal.type("n\n")
        assert terminal.end() == 0
    assert str(load_settings(directory / "usersync.toml").users_table) == "public.profiles"
    (directory / "usersync.toml").unlink()
    done = usersync("init")
    assert done.code == 1
    assert "The evidence does not decide between" in done.out
    assert usersync("plan").code == 2
    assert usersync("init", "--force", "--table", "public.users").code == 0
    assert str(load_settings(directory / "usersync.toml").users_table) == "public.users"


@pytest.mark.parametrize("key", ["end of input", "Ctrl-C"])
def test_aborting_the_question_writes_no_file(dsn, directory, postgres, key):
    postgres.execute(SEVERAL)
    with Terminal("init") as terminal:
        terminal.wait_for("Which one holds your users? [1]: ")
        if key == "Ctrl-C":
            assert terminal.interrupt() == 130
        else:
            terminal.type("\x04")
            assert terminal.end() == 1
        assert "Traceback" not in terminal.text
    assert not (directory / "usersync.toml").exists()


def test_the_table_option_accepts_an_existing_and_a_new_table(proposed, postgres):
    postgres.execute("create schema app; create table app.folks (n int, who uuid unique, mail text)")
    data = proposed("--table", "app.folks")
    assert data["settings"]["users_table"] == "app.folks"
    assert data["settings"]["key"] == "who"
    assert entries(data) == {"n": None, "mail": {"from": ["email"]}}
    assert "usersync creates it" in proposed("--table", "app.members")["toml"]
    assert "usersync creates it" in proposed()["toml"]  # app.folks has no rows and an unusual name


@pytest.mark.parametrize("name", ["a.b.c", "", "we$ird", "x" * 70])
def test_an_invalid_table_name_is_wrong_usage(usersync, dsn, directory, name):
    assert usersync("init", "--table", name or '""').code == 2
    assert not (directory / "usersync.toml").exists()


REFUSED = {
    "create table public.users (tenant int, id uuid, primary key (tenant, id))": (
        "public.users has a primary key of several columns (tenant, id)",
        'alter table "public"."users" add unique ("id")',
    ),
    "create table public.users (id bigserial primary key, email text)": (
        "public.users has no unique column that can hold the auth user's id",
        "add column auth_id uuid unique",
    ),
    "create table public.users (id uuid, n int); create unique index on public.users (id) where n > 1": (
        "public.users has no unique column that can hold the auth user's id",
        "add column auth_id uuid unique",
    ),
}


@pytest.mark.parametrize("table", REFUSED)
def test_a_table_that_cannot_be_used_is_refused_with_the_reason(usersync, dsn, directory, postgres, table):
    postgres.execute(table)
    done = usersync("init", "--json")
    assert done.code == 1
    message, hint = REFUSED[table]
    assert message in done.json["error"]["message"]
    assert hint in done.json["error"]["hint"]
    assert not (directory / "usersync.toml").exists()


def test_an_unusable_table_does_not_prevent_the_choice_of_a_usable_one(proposed, postgres):
    postgres.execute(
        "create table public.users (id bigserial primary key);"
        "create table public.profiles (id bigserial primary key, email text, "
        "user_id uuid unique references auth.users)"
    )
    data = proposed()["settings"]
    assert (data["users_table"], data["key"]) == ("public.profiles", "user_id")


@pytest.mark.slow
def test_a_table_that_a_hand_written_trigger_fills_is_preferred(proposed, postgres):
    postgres.execute(SEVERAL)
    postgres.execute(
        "create function public.f() returns trigger language plpgsql as "
        "'begin insert into public.profiles (id, mail) values (new.id, new.email); return new; end';"
        "create trigger t after insert on auth.users for each row execute function public.f()"
    )
    data = proposed()
    assert data["settings"]["users_table"] == "public.profiles"
    assert data["other_tables"] == ["public.users"]
    assert data["triggers_on_auth_users"] == [
        {"name": "t", "function": "public.f()", "copies": True, "beyond": []}
    ]
    assert data["needs_adoption"]


PRIVILEGES = ("role", "is_admin", "isAdmin", "permissions", "plan", "email_verified", "org_id")


def test_columns_that_look_like_privileges_are_never_mapped_from_user_metadata(proposed, postgres, auth):
    columns = ", ".join(f'"{name}" text' for name in PRIVILEGES)
    postgres.execute(
        f"create table public.users (id uuid primary key references auth.users, nickname text, {columns})"
    )
    auth.sign_up_email(data={"nickname": "ada", **dict.fromkeys(PRIVILEGES, "admin")})
    found = entries(proposed())
    assert found["nickname"]["from"] == ["user_metadata.nickname"]
    assert {found[name] for name in PRIVILEGES} == {None}
    auth.admin_create(app_metadata={"role": "editor", "plan": "pro"})
    found = entries(proposed())
    assert [found[name]["from"] for name in ("role", "plan")] == [
        ["app_metadata.role"],
        ["app_metadata.plan"],
    ]
    assert found["is_admin"] is None


HOSTILE = (
    'quo"te',
    "it's",
    "new\nline",
    "tab\there",
    "DECIDE: = 1 ]",
    "users_table",
    "ünï🦄",
    "dot.ted",
    "do$$llar",
    "# comment",
    "back\\slash",
)


def test_special_characters_in_names_are_escaped_in_the_settings_file(proposed, usersync, postgres, auth):
    quoted = {name: '"' + name.replace('"', '""') + '"' for name in HOSTILE}
    columns = ", ".join(f"{name} text not null" for name in quoted.values())
    postgres.execute(
        f'create schema "we""ird"; create table "we""ird"."us.ers" ("i\'d" uuid primary key, {columns})'
    )
    postgres.execute(f"""
        comment on column "we""ird"."us.ers".{quoted["it's"]} is E'auth.users.email\\n[columns]\\nx = 1';
        alter table "we""ird"."us.ers" add constraint "ch\neck" check (length({quoted["it's"]}) > 99);
    """)
    auth.sign_up_email(data=dict.fromkeys(HOSTILE, "x"))
    data = proposed("--table", '"we""ird"."us.ers"', code=1)
    found = entries(data)
    assert found["it's"] == {"from": ["email"]}
    assert found['quo"te']["from"] == ['user_metadata.quo"te']
    assert {name for name in HOSTILE if found[name] is None} == {
        "new\nline",
        "tab\there",
        "dot.ted",
        "do$$llar",
    }
    assert "1 of 1 sampled users violate ch?eck" in data["toml"]
    done = usersync("plan")
    assert done.code == 1
    assert "fix 4 errors first" in done.out  # no source fills the four columns


def test_values_are_tried_before_anything_is_installed(proposed, postgres, auth):
    postgres.execute("""
        create domain public.positive as int check (value > 0);
        create table public.users (
            id uuid primary key references auth.users, email text unique, age public.positive,
            username text not null unique,
            constraint long_enough check (length(username) >= 5))
    """)
    for age, name in ((1, "ada"), (-1, "longname"), ("x", "longer"), (None, None)):
        auth.sign_up_email(data={"age": age, "username": name})
    auth.sign_up_email("taken@example.com", data={"username": "another"})
    postgres.execute(
        "insert into public.users (id, email, username) "
        "select id, 'taken@example.com', 'theirs' from auth.users where email is distinct from "
        "'taken@example.com' limit 1"
    )
    notes = proposed(code=1)["notes"]  # the question who creates the rows
    assert "2 of 5 sampled users have a value that does not fit into age (public.positive)." in notes
    # "ada", and the default for a user without a value.
    assert any("2 of 5 sampled users violate long_enough" in each for each in notes)
    assert "1 of 5 sampled users have a value for email (UNIQUE) that another row has." in notes


def test_no_code_of_another_roles_table_is_run(proposed, postgres, superuser, auth):
    superuser.execute("""
        create table public.users (id uuid primary key references auth.users, email text);
        create function public.runs(text) returns boolean language plpgsql security definer as
          $$ begin raise exception 'it ran'; end $$;
        alter table public.users add constraint runs check (public.runs(email));
        grant all on public.users to postgres
    """)
    auth.sign_up_email()
    notes = proposed()["notes"]
    assert any("belongs to another role" in each for each in notes)
    assert not any("runs" in each.split() for each in notes)


def test_deferred_constraints_are_named(proposed, postgres):
    postgres.execute(
        "create table public.teams (id int primary key);"
        "create table public.users (id uuid primary key references auth.users, "
        "email text unique deferrable initially deferred, "
        "team int constraint plays_for references public.teams deferrable initially deferred)"
    )
    late = [each.partition(" ")[0] for each in proposed()["notes"] if "is checked at COMMIT" in each]
    assert late == ["plays_for", "users_email_key"]


def test_a_check_that_cannot_be_tried_is_reported(proposed, postgres, auth):
    postgres.execute("""
        create table public.users (id uuid primary key references auth.users, email text);
        create function public.strict(text) returns boolean language plpgsql as
          $$ begin raise exception 'no'; end $$;
        alter table public.users add constraint strict check (public.strict(email))
    """)
    auth.sign_up_email()
    assert any(each.startswith("strict could not be checked") for each in proposed()["notes"])


ON_DELETE = {
    "references auth.users on delete cascade": ("delete", "deletes the row with the user"),
    "references auth.users": ("anonymize", "Database error deleting user"),
    "references auth.users on delete set null": ("anonymize", "before usersync can find the row"),
    "": ("keep", "the row of a deleted user stays unchanged"),
}


@pytest.mark.parametrize("reference", ON_DELETE)
def test_on_delete_is_proposed_from_the_foreign_key(proposed, postgres, reference):
    postgres.execute(f"create table public.users (id int, auth_id uuid unique {reference}, email text)")
    data = proposed("--table", "public.users")
    value, words = ON_DELETE[reference]
    assert data["settings"]["on_delete"] == value
    assert words in data["toml"].replace("\n# ", " ")


def test_triggers_of_the_users_table_are_explained(proposed, usersync, postgres):
    postgres.execute(
        USERS
        + ";"
        + """
        create table public.seen (id uuid);
        create function public.seen() returns trigger language plpgsql as
          $$ begin insert into seen values (new.id); return new; end $$;
        create function public.hook() returns trigger language plpgsql set search_path = '' as
          $$ begin perform net.http_post('x'); return new; end $$;
        create function public.sync() returns trigger language plpgsql as
          $$ begin perform extensions.http_get('x'); return new; end $$;
        create trigger a after insert on public.users for each row execute function public.seen();
        create trigger b after insert on public.users for each row execute function public.hook();
        create trigger c after insert on public.users for each row execute function public.sync();
    """
    )
    triggers = {each["name"]: each for each in proposed()["triggers_on_users"]}
    assert triggers["a"]["relies_on_search_path_for"] == ["seen"]
    assert "pg_net" in triggers["b"]["network"]
    assert "waits for the answer" in triggers["c"]["network"]
    said = " ".join(usersync("init", "--force").out.split())
    assert "usersync apply --adopt sets the function's own search path" in said


def test_an_audit_table_of_the_application_is_not_changed(proposed, usersync, postgres):
    postgres.execute(USERS + "; create table public.audit_logs (id int)")
    assert proposed()["settings"]["audit"]["table"] == "public.audit_events"
    assert usersync("plan").code == 0


def test_large_and_unusual_metadata_cause_no_error(proposed, postgres, auth):
    postgres.execute("create table public.users (id uuid primary key references auth.users, nickname text)")
    statement = "insert into auth.users (id, raw_user_meta_data) values (gen_random_uuid(), %s)"
    for value in ([1], "text", None, {"nickname": None}, {"nickname": "x" * 5_000_000}, {"k" * 5000: 1}):
        auth.connection.execute(statement, [Jsonb(value)])
    auth.connection.execute("insert into auth.users (id) values (gen_random_uuid())")
    auth.connection.execute(statement, [Jsonb({f"key{n}": n for n in range(1000)} | {"nickname": "ada"})])
    data = proposed()
    assert entries(data)["nickname"]["from"] == ["user_metadata.nickname"]


def test_the_error_without_auth_users_names_the_setting(usersync, dsn, directory, superuser):
    superuser.execute("drop schema auth cascade")
    done = usersync("init", "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "US303")
    assert "source_table" in done.json["error"]["hint"]


def test_init_reads_the_source_table_that_the_file_names(usersync, dsn, directory, superuser):
    superuser.execute("alter table auth.users rename to people")
    path = directory / "usersync.toml"
    path.write_text('source_table = "auth.people"')
    assert usersync("init", "--force").code == 0
    assert str(load_settings(path).source_table) == "auth.people"
    path.write_text("not toml at all")
    assert usersync("init", "--stdout").code == 2
    assert usersync("init", "--force").code == 1  # because auth.users is missing, not because of the file


def test_settings_that_are_no_longer_read_are_reported(usersync, dsn, directory):
    (directory / "pyproject.toml").write_text('[tool.usersync]\non_delete = "keep"\n')
    assert "the settings in pyproject.toml are no longer read" in usersync("init").out


def test_a_role_without_privileges_gets_an_error_from_init(usersync, database, directory, monkeypatch):
    monkeypatch.setenv("SUPABASE_DB_URL", database.dsn("authenticator"))
    done = usersync("init", "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "US202")
    assert not (directory / "usersync.toml").exists()


def test_an_unwritable_directory_is_named(usersync, dsn, directory):
    done = usersync("init", "--config", directory / "missing" / "usersync.toml")
    assert done.code == 2
    assert "cannot write" in done.err


def test_init_does_not_wait_long_for_a_locked_table(usersync, dsn, postgres, superuser, monkeypatch):
    postgres.execute(USERS)
    give_up_soon(monkeypatch)
    with superuser.transaction():
        superuser.execute("lock table public.users in access exclusive mode")
        assert usersync("init").code == 0


@pytest.mark.slow
def test_init_restores_a_lost_file_from_the_installation(usersync, dsn, directory, postgres, proposed):
    postgres.execute("create table public.users (id uuid primary key, mail text, nick text, at timestamptz)")
    path = directory / "usersync.toml"
    path.write_text("""
        on_delete = "keep"
        lock_timeout_ms = 100
        [columns]
        mail = { from = "email", personal = false }
        nick = { from = ["user_metadata.nick", "phone"], owner = "app", on_conflict = "suffix" }
    """)
    assert usersync("apply", "--yes", "--no-trial").code == 0
    settings = load_settings(path)
    path.unlink()
    data = proposed()
    assert load_settings(path) == settings
    assert about(data, "mail")["entry"] == {"from": ["email"], "personal": False}
    assert about(data, "at")["entry"] is None
    assert "lock_timeout_ms = 100" in data["toml"]
    assert data["triggers_on_auth_users"] == []
    assert usersync("plan", "--json").json["state"] == "up to date"


def test_existing_values_are_tried_without_usersyncs_functions(usersync, database, postgres, auth):
    """init tries the mapping although usersync's functions are not installed."""
    postgres.execute(USERS.replace("email text", "email text, full_name text default 'nobody'"))
    auth.sign_up_email(data={"full_name": "Ada"})
    done = usersync("init", "--yes", "--dsn", database.dsn())
    assert "does not fit" not in done.out + done.err
