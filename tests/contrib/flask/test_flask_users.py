"""The user has a row before the view runs. A request neither fails nor waits long for the row."""

from __future__ import annotations

import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from auth_server import Key
from flask import Blueprint, Flask
from psycopg.conninfo import make_conninfo

from proxy import Proxy
from usersync.contrib import ensuring
from usersync.contrib.flask import FlaskUserSync
from usersync.errors import SettingsError

pytestmark = pytest.mark.newest_server


@pytest.fixture
def make_client(make_app):
    """A client of an application whose view returns its user, as ``def`` and as ``async def``."""

    def make(**options):
        app, users = make_app(**options)

        @app.get("/whoami")
        @users.user_required
        def whoami():
            return str(users.current_user.id)

        @app.get("/whoami-async")
        @users.user_required
        async def whoami_async():
            return str(users.current_user.id)

        return app.test_client()

    return make


def nowhere(backend) -> str:
    """A connection string without a server."""
    return make_conninfo(backend.dsn, port=1)


@pytest.mark.parametrize("path", ["/whoami", "/whoami-async"])
@pytest.mark.parametrize("required", [False, True])
def test_a_user_without_a_row_has_one_when_the_view_runs(backend, make_client, path, required):
    user_id = backend.sign_up_unseen()
    response = make_client(required=required).get(path, headers=backend.bearer(user_id))
    assert (response.status_code, response.text) == (200, str(user_id))
    assert backend.has_row(user_id)


def test_a_known_user_needs_no_query(backend, make_client):
    client, headers = make_client(required=True), backend.bearer()
    assert client.get("/whoami", headers=headers).status_code == 200
    backend.owner.execute("drop function public.ensure_user_exists(uuid)")
    assert client.get("/whoami", headers=headers).status_code == 200
    assert client.get("/whoami", headers=backend.bearer()).status_code == 503


@pytest.mark.parametrize("path", ["/whoami", "/whoami-async"])
@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic YTpi", "Token x"])
def test_without_a_token_there_is_no_user(make_client, path, authorization):
    headers = {"Authorization": authorization} if authorization is not None else {}
    response = make_client().get(path, headers=headers)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_invalid_tokens_are_answered_with_401(backend, make_client, caplog):
    caplog.set_level(logging.DEBUG)
    tokens = backend.tokens
    bad = (
        tokens.token(exp=int(time.time()) - 3600),
        tokens.token(key=Key()),
        tokens.token(aud="other"),
        tokens.token().rpartition(".")[0] + ".",
        tokens.shared_token(),
        tokens.token(user_metadata={"x": "y" * 20_000}),
        "garbage",
    )
    client = make_client()
    for token in bad:
        response = client.get("/whoami", headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer error=")
        for part in token.split("."):
            assert len(part) < 8 or part not in response.text + str(response.headers) + caplog.text


def test_without_keys_of_the_auth_server_the_answer_is_503(backend, make_client):
    backend.tokens.answer = (500, "text/html", b"<html>")
    response = make_client().get("/whoami", headers=backend.bearer())
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")


def test_while_the_database_is_unavailable_requests_continue(backend, make_client, caplog):
    client = make_client(dsn=nowhere(backend))
    for _ in range(5):
        assert client.get("/whoami", headers=backend.bearer()).status_code == 200
    assert caplog.text.count("users cannot be looked up at the moment") == 1


def test_while_the_database_is_unavailable_a_required_row_answers_503(backend, make_client):
    response = make_client(dsn=nowhere(backend), required=True).get("/whoami", headers=backend.bearer())
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")


@pytest.mark.parametrize("required", [False, True])
def test_an_unknown_user_is_answered_with_503_if_a_row_is_required(backend, make_client, required):
    response = make_client(required=required).get("/whoami", headers=backend.bearer(uuid4()))
    assert response.status_code == (503 if required else 200)


def test_a_connection_without_answers_delays_one_request_and_is_replaced(
    backend, make_client, caplog, eventually, monkeypatch
):
    """Then users are looked up again, without a restart."""
    monkeypatch.setattr(ensuring, "PAUSE_S", 0.2)
    monkeypatch.setattr(ensuring, "_LOST_S", 0.5)
    with Proxy(backend.database.host, backend.database.port) as proxy:
        client = make_client(dsn=proxy.through(backend.dsn), timeout=0.1)
        assert client.get("/whoami", headers=backend.bearer()).status_code == 200
        proxy.silent.set()
        unseen = backend.sign_up_unseen()
        assert client.get("/whoami", headers=backend.bearer(unseen)).status_code == 200
        assert "no answer from the database in 0.1 s" in caplog.text
        proxy.silent.clear()

        def ensured() -> bool:
            assert client.get("/whoami", headers=backend.bearer(unseen)).status_code == 200
            return backend.has_row(unseen)

        eventually(ensured)


def test_concurrent_requests_of_one_user_share_an_attempt(backend, make_client):
    client, headers = make_client(), backend.bearer(backend.sign_up_unseen())
    with backend.database.connect() as holder, ThreadPoolExecutor(6) as threads:
        holder.execute("begin; lock table public.users in share mode")
        answers = [
            threads.submit(client.application.test_client().get, "/whoami", headers=headers) for _ in range(6)
        ]
        assert {each.result().status_code for each in answers} == {200}
        holder.execute("rollback")
    assert backend.owner.execute("select attempts from usersync.sync_failures").fetchall() == [(1,)]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_its_own_connection(backend, make_client):
    """As with a server that serves a request before it forks."""
    client = make_client(required=True)
    assert client.get("/whoami", headers=backend.bearer()).status_code == 200
    unseen, later = backend.bearer(backend.sign_up_unseen()), backend.bearer(backend.sign_up_unseen())
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if client.get("/whoami", headers=unseen).status_code == 200 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert client.get("/whoami", headers=later).status_code == 200


def test_a_blueprint_for_users_only(backend, make_app):
    app, users = make_app()
    blueprint = Blueprint("private", __name__)
    blueprint.before_request(users.require_user)
    blueprint.get("/private")(lambda: str(users.current_user.id))
    app.register_blueprint(blueprint)
    app.get("/public")(lambda: "anybody")
    client, user_id = app.test_client(), backend.sign_up()
    assert client.get("/public").text == "anybody"
    assert client.get("/private").status_code == 401
    assert client.get("/private", headers=backend.bearer(user_id)).text == str(user_id)


def test_the_user_belongs_to_the_request_not_to_the_application_context(backend, make_client):
    client = make_client()
    with client.application.app_context():
        assert client.get("/whoami", headers=backend.bearer()).status_code == 200
        assert client.get("/whoami").status_code == 401


def test_a_view_that_requires_no_user_has_no_current_user(make_app):
    app, users = make_app()
    with app.test_request_context(), pytest.raises(SettingsError, match="no current user"):
        _ = users.current_user


def test_one_extension_may_serve_several_applications(backend, monkeypatch, tmp_path):
    monkeypatch.setenv("SUPABASE_URL", backend.tokens.url)
    monkeypatch.setenv("SUPABASE_DB_URL", backend.dsn)
    users = FlaskUserSync()
    for name in ("one", "two"):
        app = Flask(name)
        users.init_app(app)
        app.get("/")(users.user_required(lambda: "a"))
        assert app.test_client().get("/").status_code == 401
        assert app.test_client().get("/", headers=backend.bearer()).status_code == 200
        users.close(app)


def test_missing_settings_raise_when_the_application_is_created(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("SUPABASE_URL", "SUPABASE_JWT_SECRET", "SUPABASE_DB_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    users = FlaskUserSync()
    with pytest.raises(SettingsError, match="no SUPABASE_URL"):
        users.init_app(Flask("app"))
    monkeypatch.setenv("SUPABASE_URL", "https://project.supabase.co")
    with pytest.raises(SettingsError, match="no connection string"):
        users.init_app(Flask("app"))
    monkeypatch.setenv("SUPABASE_DB_URL", "postgresql://postgres@localhost/postgres")
    with pytest.raises(SettingsError, match="trusted_proxies"):
        FlaskUserSync(Flask("app"), trusted_proxies=["*"])
    app = Flask("app")
    FlaskUserSync(app)
    with pytest.raises(SettingsError, match="already"):
        FlaskUserSync(app)


def test_an_application_without_the_extension_raises(make_app):
    _, users = make_app()
    app = Flask("other")
    app.get("/")(users.user_required(lambda: "a"))
    app.config["PROPAGATE_EXCEPTIONS"] = True
    with pytest.raises(SettingsError, match="has no FlaskUserSync"):
        app.test_client().get("/")
