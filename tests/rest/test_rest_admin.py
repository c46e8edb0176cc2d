"""The auth server has its own database: usersync lists its users over HTTP, and keeps a copy of them."""

from __future__ import annotations

import json
from contextlib import closing

import pytest
from misbehaving_server import answering

from admin_api import AdminApi
from fixtures_project import NAMES, clone_installed
from postgrest_server import SECRET_KEY, SERVICE_KEY, Gateway
from usersync import DataApi
from usersync.cli.main import run
from usersync.config.settings import Settings, parse_settings
from usersync.core.admin_users import delete_gone, update_copy
from usersync.errors import ApiKeyError, ConnectionFailedError, SettingsError
from usersync.transports.data_api.admin import AuthServer
from usersync.transports.psycopg import transport_for

pytestmark = pytest.mark.newest_server

OWN = {"source_table": "usersync.auth_users"}


@pytest.fixture
def settings(names):
    return parse_settings(NAMES[names][0] | OWN)


@pytest.fixture
def admin(database):
    """The admin API of an auth server that lives in another database than the project."""
    return AdminApi(database)


@pytest.fixture
def auth_server(admin):
    with Gateway(upstream=None, auth=admin) as gateway:
        yield AuthServer(DataApi(gateway.url, SECRET_KEY))


@pytest.fixture
def small_pages(monkeypatch):
    monkeypatch.setattr(AuthServer.first_page, "__defaults__", (3,))


@pytest.fixture
def receive(project, auth_server):
    def call(*, remove=False, **options):
        with closing(transport_for(project.database.dsn())) as transport:
            received = update_copy(transport, auth_server, **options)
            if remove:
                delete_gone(transport, received)
            return received

    return call


def sign_up(auth, count):
    return [auth.sign_up_email(f"user{number}@example.com") for number in range(count)]


@pytest.mark.parametrize("form", ["numbers", "numbers without headers", "cursors"])
@pytest.mark.usefixtures("small_pages")
def test_all_users_are_copied_with_page_numbers_and_with_cursors(project, auth, admin, receive, form):
    admin.cursors, admin.with_headers = form == "cursors", form != "numbers without headers"
    users = sign_up(auth, 10)
    received = receive()
    assert (received.listed, received.written, received.unlisted) == (10, 10, 0)
    for number, user in enumerate(users):
        row = project.row(user)
        assert (row["email"], row["phone"]) == (f"user{number}@example.com", None)
    assert project.client.status().in_step
    again = receive()
    assert (again.listed, again.written, again.unlisted) == (10, 0, 0)


def test_few_users_are_listed_with_one_request(auth, admin, receive):
    sign_up(auth, 3)
    assert receive().listed == 3
    assert admin.asked == ["/admin/users?limit=500"]


def test_a_change_on_the_auth_server_is_copied_to_the_row(project, auth, receive):
    user, anonymous = auth.sign_up_email("ada@example.com"), auth.sign_up_anonymous()
    receive()
    assert project.row(anonymous)["is_anonymous"] is True
    auth.change_email(user, "grace@example.com")
    auth.make_permanent(anonymous, "alan@example.com")
    assert receive().written == 2
    assert project.row(user)["email"] == "grace@example.com"
    assert project.row(anonymous)["is_anonymous"] is False
    assert project.row(anonymous)["email"] == "alan@example.com"


def test_deleted_users_are_removed_and_existing_users_that_were_not_listed_stay(
    project, auth, database, receive
):
    gone, hidden, alive = sign_up(auth, 3)
    receive()
    auth.hard_delete(gone)
    with database.connect("supabase_auth_admin") as connection:
        connection.execute("update auth.users set aud = 'other' where id = %s", [hidden])
    received = receive()
    assert (received.listed, received.unlisted, received.gone) == (1, 1, (str(gone),))
    assert project.row(gone)["email"]
    assert project.row(gone)["deleted_at"] is None
    receive(remove=True)
    assert project.row(gone)["email"] is None
    assert project.row(gone)["deleted_at"]
    assert project.row(hidden)["email"]
    assert project.row(alive)["email"]


def test_a_soft_deletion_on_the_auth_server_is_one_in_the_copy(project, auth, receive):
    (user,) = sign_up(auth, 1)
    receive()
    auth.soft_delete(user)
    receive()
    row = project.row(user)
    assert (row["email"], row["deleted_at"] is None) == (None, False)


@pytest.mark.usefixtures("small_pages")
def test_sign_ups_and_deletions_during_paging_lose_no_user(project, auth, admin, receive):
    here = set(sign_up(auth, 8))
    newcomers = iter(range(100, 200))

    def shift():
        here.add(auth.sign_up_email(f"user{next(newcomers)}@example.com"))
        for _ in range(2):
            if here:
                auth.hard_delete(here.pop())

    admin.between = shift
    receive(remove=True)
    admin.between = lambda: None
    receive(remove=True)
    alive = f"{project.column('deleted_at')} is null"
    rows = project.owner.execute(f"select * from {project.users} where {alive}").fetchall()
    assert len(rows) == len(here)
    assert all(project.row(user)["email"] for user in here)
    assert project.client.status().in_step


@pytest.mark.slow
def test_an_empty_list_of_users_removes_no_row(project, auth, database, receive):
    """No row is removed.

    Above ``ask_up_to`` unlisted users, they are not requested by id and not reported as deleted.
    """
    users = sign_up(auth, 15)
    receive()
    with database.connect("supabase_auth_admin") as connection:
        connection.execute("truncate auth.users cascade")
    received = receive(ask_up_to=14)
    assert (received.unlisted, received.gone) == (15, ())
    assert receive().unlisted == 15
    assert all(project.row(user)["email"] for user in users)
    assert len(receive(remove=True).gone) == 15
    assert project.row(users[0])["email"] is None


@pytest.fixture
def command(project, auth_server, monkeypatch, empty_directory, capsys):
    """Call the command in a project whose auth server has its own database."""
    monkeypatch.setenv("SUPABASE_DB_URL", project.database.dsn())
    monkeypatch.setenv("SUPABASE_AUTH_URL", f"{auth_server.api.url}/auth/v1")
    monkeypatch.setenv("SUPABASE_SECRET_KEY", SECRET_KEY)

    def call(*arguments):
        capsys.readouterr()
        code = run([*arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.mark.slow
def test_users_who_are_not_listed_are_reported_as_orphaned_and_removed_on_request(
    project, auth, receive, command
):
    gone, other, alive = sign_up(auth, 3)
    receive()
    auth.hard_delete(gone)
    auth.hard_delete(other)
    code, out, err = command("sync", "--from-api")
    assert code == 0
    assert "2 no longer listed" in err
    assert "usersync sync --from-api --remove-orphans --max N" in out
    assert json.loads(command("sync", "--from-api", "--json")[1])["orphaned"] == 2
    assert project.row(gone)["email"]
    # Nothing is removed without --max, or if there are more orphans than --max allows.
    assert command("sync", "--from-api", "--remove-orphans", "--yes")[0] == 2
    assert command("sync", "--from-api", "--remove-orphans")[0] == 2
    code, _, err = command("sync", "--from-api", "--remove-orphans", "--yes", "--max", "1")
    assert (code, "US403" in err) == (1, True)
    assert project.row(gone)["email"]
    code, out, _ = command("sync", "--from-api", "--remove-orphans", "--yes", "--max", "2")
    assert (code, "applied to 2 rows" in out) == (0, True)
    assert project.row(gone)["email"] is project.row(other)["email"] is None
    assert project.row(alive)["email"]
    assert project.client.status().in_step


def test_fields_of_a_supabase_py_user_are_stored(project, auth, admin):
    user = auth.sign_up_email("ada@example.com")
    (told,) = json.loads(admin._by_number({})[2])["users"]
    assert project.client.sync_auth_user({"user": told}) is True
    assert project.row(user)["email"] == "ada@example.com"
    older = told | {"email": "old@example.com", "updated_at": "2000-01-01T00:00:00Z"}
    assert project.client.sync_auth_user(older) is True
    assert project.row(user)["email"] == "ada@example.com"
    assert project.client.sync_auth_user(user) is True


def test_rollback_also_removes_the_copy_of_the_users(project):
    assert run(["rollback", "--yes", "--dsn", project.database.dsn()]) == 0
    assert project.owner.execute("select to_regnamespace('usersync')").fetchone() == (None,)


@pytest.fixture
def empty_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("empty_directory")
def test_the_command_lists_the_users_and_syncs_them(project, auth, auth_server, monkeypatch, capsys):
    sign_up(auth, 3)
    monkeypatch.setenv("SUPABASE_DB_URL", project.database.dsn())
    monkeypatch.setenv("SUPABASE_AUTH_URL", f"{auth_server.api.url}/auth/v1")
    monkeypatch.setenv("SUPABASE_SECRET_KEY", SECRET_KEY)
    assert run(["sync", "--from-api"]) == 0
    said = capsys.readouterr()
    assert "3 users listed, 3 new or changed" in said.err
    assert SECRET_KEY not in said.out + said.err
    assert run(["sync", "--from-api", "--dry-run"]) == 2
    assert run(["status"]) == 0


def test_update_copy_is_refused_if_the_source_table_is_auth_users(cluster, auth_server):
    database = clone_installed(cluster, Settings())
    with closing(transport_for(database.dsn())) as transport, pytest.raises(SettingsError) as caught:
        update_copy(transport, auth_server)
    assert "source_table is auth.users, which is no copy" in str(caught.value)
    assert "source_table" in caught.value.hint
    cluster.drop(database)


@pytest.mark.usefixtures("empty_directory")
def test_an_auth_server_without_a_gateway_is_called_without_its_path(monkeypatch):
    monkeypatch.setenv("SUPABASE_AUTH_URL", "https://auth.example.com")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", SERVICE_KEY)
    server = AuthServer.from_env()
    assert (server.api.url, server.prefix) == ("https://auth.example.com", "")


ENDLESS = {"users": [{"id": "00000000-0000-0000-0000-000000000007"}], "pagination": {"next_cursor": "same"}}


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (answering("200 OK", b'{"users": null}'), ConnectionFailedError),
        (answering("200 OK", b'{"users": [{"id": 7}]}'), ConnectionFailedError),
        (answering("200 OK", b"<html>"), ConnectionFailedError),
        (answering("401 Unauthorized", b'{"msg":"This endpoint requires a Bearer token"}'), ApiKeyError),
        (answering("200 OK", json.dumps(ENDLESS).encode()), ConnectionFailedError),
        (answering("200 OK", b'{"users": []}', Link='</x?page=1>; rel="next"'), ConnectionFailedError),
    ],
)  # fmt: skip
def test_an_invalid_list_of_users_is_refused(project, misbehaving, behaviour, kind):
    server = AuthServer(DataApi(misbehaving(behaviour).url, SECRET_KEY, timeout=60))
    with closing(transport_for(project.database.dsn())) as transport, pytest.raises(kind):
        update_copy(transport, server)
