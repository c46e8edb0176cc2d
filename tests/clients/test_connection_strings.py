"""Connection strings: where they are found, which forms are accepted, and that no password is shown."""

from __future__ import annotations

import traceback

import pytest
from psycopg.conninfo import conninfo_to_dict

from usersync import AsyncUserSync, DataApi, UserSync
from usersync.config.dsn import Sealed, check_dsn, connection_options, describe_target, find_dsn, unset_in
from usersync.errors import ApiKeyError, ConnectionFailedError, SettingsError
from usersync.transports.data_api.api import KEY_VARIABLES, OTHER_KEY_VARIABLES
from usersync.transports.psycopg import find_source

SECRET = "hunter2"  # noqa: S105 - the point of these tests


def error_for(dsn: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        check_dsn(dsn)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + str(caught.value.hint)
    assert SECRET not in shown
    return caught.value


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://u:{SECRET}@h:5432/d",
        f"postgres://u:{SECRET}@h/d?sslmode=require",
        f"host=h user=u password={SECRET} dbname=d",
        f"postgresql://u:{SECRET}@h1:1,h2:2/d?target_session_attrs=read-write",
        f"postgresql:///d?host=/tmp&user=u&password={SECRET}",
        "postgresql://u:a%40b%2Fc@h/d",
        "postgresql://h/d",
    ],
)
def test_a_connection_string_for_libpq_is_kept_unchanged(dsn):
    assert check_dsn(f" {dsn}\n") == dsn


@pytest.mark.parametrize(
    ("dsn", "cleaned"),
    [
        ("postgresql+psycopg://u@h/d", "postgresql://u@h/d"),
        ("postgres+asyncpg://u@h/d", "postgres://u@h/d"),
        ("postgresql://u@h/d?pgbouncer=true", "postgresql://u@h/d"),
        (
            "postgresql://u@h/d?pgbouncer=true&connection_limit=1&sslmode=disable",
            "postgresql://u@h/d?sslmode=disable",
        ),
        ("postgresql://u@h/d?schema=app", "postgresql://u@h/d"),
        ("postgresql+asyncpg://u@h/d?ssl=require", "postgresql://u@h/d?sslmode=require"),
        ("postgresql+asyncpg://u@h/d?ssl=true", "postgresql://u@h/d?sslmode=require"),
        (
            "postgresql+asyncpg://u@h/d?prepared_statement_cache_size=0&application_name=a&command_timeout=5",
            "postgresql://u@h/d?application_name=a",
        ),
        ("postgres://u@h/d?sslmode=require&supa=base-pooler.x", "postgres://u@h/d?sslmode=require"),
    ],
)
def test_options_of_other_tools_are_removed_from_a_connection_string(dsn, cleaned):
    assert check_dsn(dsn) == cleaned
    for kind in (UserSync, AsyncUserSync):
        assert repr(kind(dsn)) == f"<{kind.__name__}: h:5432/d>"


@pytest.mark.parametrize("option", ["direct_tls=true", "server_settings=x", "timeout=3"])
def test_an_asyncpg_option_without_a_libpq_counterpart_is_rejected_by_name(option):
    name = option.partition("=")[0]
    assert f"has the option {name}" in str(error_for(f"postgresql+asyncpg://u:{SECRET}@h/d?{option}"))


def test_options_in_a_connection_string_keep_their_spaces():
    dsn = "postgresql://u@h/d?options=-c%20role%3Danon%20-c%20statement_timeout%3D3s"
    assert conninfo_to_dict(check_dsn(dsn))["options"] == "-c role=anon -c statement_timeout=3s"


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://u:{SECRET}@ss@h/d",
        f"postgresql://u:x@{SECRET}@h/d",
        f"postgresql://u:x/{SECRET}@h:5432/d",
        f"postgresql://u:{SECRET}/x@h:5432/d",
        f"postgresql://u@mail:{SECRET}@h/d",
    ],
)
def test_a_password_that_is_not_percent_encoded_is_rejected_and_not_shown(dsn):
    assert "%40" in error_for(dsn).hint


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        " ",
        "\0",
        f"postgresql://u:{SECRET}@h/d\0",
        f"postgress://u:{SECRET}@h/d",
        f"mysql://u:{SECRET}@h/d",
        f"u:{SECRET}@h/d",
        f"u:{SECRET}@h/d?sslmode=disable",
        f"postgresql://u:{SECRET}%zz@h/d",
        f"postgresql://u:{SECRET}@[::1/d",
        f"postgresql://u:{SECRET}@h/d?sslmode",
        f"postgresql://u:{SECRET}@h/d?nonsense={SECRET}",
        f"host=h password='{SECRET}",
        f"host=h password={SECRET} and more",
        f"host=h {SECRET}",
        "localhost",
        "just some words",
        "postgresql://u:\ud800@h/d",
    ],
)
def test_an_invalid_connection_string_is_rejected_with_a_hint(dsn):
    assert error_for(dsn).hint


def test_a_data_api_url_is_rejected_with_an_error_of_its_own():
    error = error_for(f"https://{SECRET}.supabase.co")
    assert "PostgreSQL connection" in str(error)
    assert "connection string" in error.hint


@pytest.mark.parametrize(
    "key", ["sb_secret_abcDEF123", "sb_publishable_abcDEF123", "eyJhbGciOiJIUzI1NiJ9.eyJ4IjoxfQ.abcDEF123"]
)
def test_an_api_key_is_rejected_with_an_error_of_its_own_and_not_shown(key):
    with pytest.raises(SettingsError) as caught:
        check_dsn(key)
    assert "API key" in str(caught.value)
    assert "Project settings" in caught.value.hint
    assert "abcDEF123" not in f"{caught.value} {caught.value.hint}"


def test_the_placeholders_of_the_documentation_are_rejected_by_name():
    with pytest.raises(SettingsError, match="<project-ref>, <password>, <pooler-host>"):
        check_dsn("postgresql://postgres.<project-ref>:<password>@<pooler-host>:5432/postgres")


def test_the_placeholder_for_the_password_is_rejected():
    error = error_for("postgresql://postgres:[YOUR-PASSWORD]@db.x.supabase.co:5432/postgres")
    assert "[YOUR-PASSWORD]" in str(error)
    assert error.hint


@pytest.mark.parametrize("kind", [UserSync, AsyncUserSync])
def test_the_repr_of_a_client_contains_no_password(kind):
    assert SECRET not in repr(kind(f"postgresql://u:{SECRET}@h/d"))


@pytest.mark.parametrize("kind", [UserSync, AsyncUserSync])
@pytest.mark.parametrize("source", [None, 5, object(), b"postgresql://h/d"])
def test_a_client_rejects_a_source_of_another_type(kind, source):
    with pytest.raises(SettingsError, match=type(source).__name__):
        kind(source)


def test_a_target_is_described_without_user_and_password():
    assert describe_target(f"postgresql://u:{SECRET}@h:6543/d") == "h:6543/d"
    assert describe_target("postgresql://u@/d") == "localhost:5432/d"


def test_options_of_the_connection_string_override_those_of_usersync():
    def options_for(dsn):
        return unset_in(Sealed(dsn), connection_options())

    assert options_for("postgresql://h/d")["connect_timeout"] == 10
    assert "connect_timeout" not in options_for("postgresql://h/d?connect_timeout=3")
    assert "application_name" not in options_for("postgresql://h/d?application_name=mine")


@pytest.fixture
def empty_directory(monkeypatch, tmp_path):
    for name in ("SUPABASE_DB_URL", "DATABASE_URL", "SUPABASE_URL", *KEY_VARIABLES, *OTHER_KEY_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_error_without_a_connection_string_names_where_usersync_looks(empty_directory):
    with pytest.raises(SettingsError, match=r"SUPABASE_DB_URL .* \.env\.local") as caught:
        UserSync.from_env()
    assert caught.value.hint


def test_variables_and_environment_files_are_read_in_order(empty_directory, monkeypatch):
    (empty_directory / ".env").write_text("DATABASE_URL=postgresql://env/d\n")
    assert find_dsn() == "postgresql://env/d"
    (empty_directory / ".env.local").write_text("DATABASE_URL='postgresql://local/d'\n")
    assert find_dsn() == "postgresql://local/d"
    (empty_directory / ".env.local").write_text(
        "SUPABASE_DB_URL=postgresql://supabase/d\nDATABASE_URL=postgresql://x/d\n"
    )
    assert find_dsn() == "postgresql://supabase/d"
    monkeypatch.setenv("DATABASE_URL", "postgresql://environment/d")
    assert find_dsn() == "postgresql://environment/d"
    monkeypatch.setenv("SUPABASE_DB_URL", "")
    assert find_dsn() == "postgresql://environment/d"
    assert find_dsn("postgresql://argument/d") == "postgresql://argument/d"


API_KEY = "sb_secret_" + "abcDEF123" * 4
OTHER_DATABASES = {
    "sqlite:///app.db": "sqlite",
    "mysql+pymysql://u:hunter2@h/d": "mysql",
    "sqlite+aiosqlite://": "sqlite",
}


@pytest.mark.parametrize("url", OTHER_DATABASES)
def test_a_database_url_of_another_database_is_skipped_and_reported(
    empty_directory, monkeypatch, caplog, url
):
    monkeypatch.setenv("DATABASE_URL", url)
    message = f"DATABASE_URL (environment) is for {OTHER_DATABASES[url]}"
    for find in (find_dsn, find_source):
        with pytest.raises(SettingsError) as caught:
            find()
        assert message in str(caught.value)
        assert SECRET not in f"{caught.value} {caught.value.hint}"
    caplog.clear()
    monkeypatch.setenv("SUPABASE_URL", "https://abcdefghijklmnopqrst.supabase.co")
    monkeypatch.setenv("SUPABASE_SECRET_KEY", API_KEY)
    assert isinstance(find_source(), DataApi)
    assert caplog.messages == [f"{message} and is not used"]
    (empty_directory / ".env").write_text("DATABASE_URL=postgresql://env/d\n")
    assert find_source() == find_dsn() == "postgresql://env/d"
    monkeypatch.setenv("SUPABASE_DB_URL", url)
    with pytest.raises(SettingsError, match=r"^SUPABASE_DB_URL "):
        find_source()


@pytest.mark.parametrize("name", OTHER_KEY_VARIABLES)
def test_an_api_key_in_another_variable_is_reported(empty_directory, name):
    (empty_directory / ".env").write_text(
        f"SUPABASE_URL=https://abcdefghijklmnopqrst.supabase.co\n{name}=sb_secret_abcDEF123\n"
    )
    with pytest.raises(ApiKeyError) as caught:
        find_source()
    assert f"usersync does not read {name} (.env:2)" in str(caught.value)
    assert "name it SUPABASE_SECRET_KEY" in caught.value.hint
    assert "abcDEF123" not in f"{caught.value} {caught.value.hint}"


def test_the_error_names_the_variable_of_an_invalid_connection_string(empty_directory, monkeypatch):
    monkeypatch.setenv("SUPABASE_DB_URL", "nonsense")
    with pytest.raises(SettingsError, match=r"^SUPABASE_DB_URL "):
        AsyncUserSync.from_env()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres.ref:TopSecret:5432/postgres",
        "postgresql://postgres:TopSecret",
        "postgresql://postgres:TopSecret#x/y",
        "postgresql://postgres:TopSecret@127.0.0.1:port/postgres",
        "postgresql://postgres:TopSecret?schema=x@host/db",
    ],
)
def test_a_password_that_is_parsed_as_a_port_is_not_shown(url):
    with pytest.raises(SettingsError) as caught:
        check_dsn(url)
    assert "TopSecret" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("name", [".env", ".env.local"])
def test_the_error_names_an_environment_file_that_is_not_utf_8(tmp_path, monkeypatch, name):
    for variable in ("SUPABASE_DB_URL", "DATABASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / name).write_bytes('DATABASE_URL="postgresql://x"'.encode("utf-16"))
    with pytest.raises(SettingsError, match=f"cannot read {name}"):
        find_dsn(directory=tmp_path)
    monkeypatch.setenv("DATABASE_URL", "postgresql://user@host/db")
    assert find_dsn(directory=tmp_path) == "postgresql://user@host/db"


@pytest.mark.parametrize("scheme", ["mysql", "sqlite", "postgresql-ha", "POSTGRESQL"])
def test_the_error_names_an_unsupported_scheme(scheme):
    error = error_for(f"{scheme}://u:{SECRET}@h/d")
    assert f"begins with {scheme}://" in str(error)


def test_the_advice_for_a_refused_connection_is_only_in_the_hint():
    with pytest.raises(ConnectionFailedError) as caught, UserSync("postgresql://127.0.0.1:1/d") as client:
        client.status()
    assert "Is the server running" not in str(caught.value)
    assert "Is the server running" in caught.value.hint
