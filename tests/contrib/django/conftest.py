"""A Django project on a database of the test's own, and both ways to serve it."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

import django
import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.conf import settings as django_settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from usersync.settings import Settings
from usersync.testing.install import install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import psycopg

    from usersync.testing import SupabaseCluster, SupabaseDatabase

AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"

PROJECT = {
    "INSTALLED_APPS": [
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "usersync.contrib.django",
    ],
    "MIDDLEWARE": ["usersync.contrib.django.AuditContextMiddleware", SESSIONS, AUTH],
    "ROOT_URLCONF": "django_views",
    "SECRET_KEY": "for tests",
    "ALLOWED_HOSTS": ["*"],
    "USE_TZ": True,
    "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
}


#: Who connects.
PEER = "203.0.113.9"


def _as_environ(headers: dict[str, str]) -> dict[str, str]:
    return {f"HTTP_{name.upper()}": value for name, value in headers.items()}


def described(database: SupabaseDatabase, **options: Any) -> dict[str, Any]:
    """A database as ``DATABASES`` has it."""
    given = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database.name,
        "USER": "postgres",
        "PASSWORD": database.passwords["postgres"],
        "HOST": database.host,
        "PORT": str(database.port),
        **options,
    }
    return connections.configure_settings({"default": given})["default"]


@pytest.fixture(scope="session")
def django_project() -> None:
    """The framework, set up once a process and for all of it: another test may have configured it before."""
    if not django_settings.configured:
        django_settings.configure()
    django.setup()
    override_settings(**PROJECT).enable()


@pytest.fixture
def use(django_project: None) -> Iterator[Callable[..., None]]:
    """Have aliases mean these databases, until the test ends."""
    before = dict(connections.settings)

    def point(**databases: dict[str, Any]) -> None:
        _close_connections()
        connections.settings.update(databases)

    yield point
    _close_connections()
    connections.settings.clear()
    connections.settings.update(before)


def _close_connections() -> None:
    """Those of this thread, and of the one in which asgiref runs what blocks. The next are made anew."""

    def close() -> None:
        for each in connections.all(initialized_only=True):
            each.close()
            del connections[each.alias]

    async def elsewhere() -> None:
        await sync_to_async(close)()

    close()
    asyncio.run(elsewhere())


@pytest.fixture
def database(cluster: SupabaseCluster, use: Callable[..., None]) -> Iterator[SupabaseDatabase]:
    """With usersync, and with the tables of Django's own applications."""

    def build(database: SupabaseDatabase) -> None:
        install(database, Settings())
        use(default=described(database))
        call_command("migrate", verbosity=0, skip_checks=True)
        _close_connections()

    database = cluster.clone(cluster.template("django", build=build))
    yield database
    _close_connections()
    cluster.drop(database)


@dataclass
class Answer:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Site:
    """The project as its servers see it, and what it has recorded."""

    database: SupabaseDatabase
    owner: psycopg.Connection[Any]

    def get(self, how: str, path: str, **headers: str) -> Answer:
        """Serve a request as a server does: ``how`` is ``wsgi`` or ``asgi``."""
        return self.wsgi(path, **headers) if how == "wsgi" else self.asgi(path, **headers)

    def wsgi(self, path: str, *, peer: str = PEER, **headers: str) -> Answer:
        """Serve a request as a WSGI server does, to its last chunk."""
        answer = Answer()

        def start(status: str, headers: list[tuple[str, str]], _exc_info: object = None) -> None:
            answer.status, answer.headers = int(status.split(maxsplit=1)[0]), dict(headers)

        body = WSGIHandler()(self.environ(path, REMOTE_ADDR=peer, **_as_environ(headers)), start)
        try:
            answer.body = b"".join(body)
        finally:
            body.close()
        return answer

    def environ(self, path: str, **environ: Any) -> dict[str, Any]:
        path, _, query = path.partition("?")
        given = {"PATH_INFO": f"/{path}", "QUERY_STRING": query, "REMOTE_ADDR": PEER, **environ}
        setup_testing_defaults(given)
        return {**given, "wsgi.input": io.BytesIO(), "wsgi.errors": io.StringIO()}

    def asgi(self, path: str, **headers: str) -> Answer:
        """Serve a request as an ASGI server does."""
        return asyncio.run(self.asgi_request(ASGIHandler(), path, **headers))

    async def asgi_request(self, application: ASGIHandler, path: str, **headers: str) -> Answer:
        communicator = ApplicationCommunicator(application, self.scope(path, **headers))
        await communicator.send_input({"type": "http.request", "body": b""})
        start = await communicator.receive_output(20)
        answer = Answer(start["status"], {key.decode(): value.decode() for key, value in start["headers"]})
        more = True
        while more:
            message = await communicator.receive_output(20)
            answer.body += message.get("body", b"")
            more = message.get("more_body", False)
        await communicator.wait(20)
        return answer

    def scope(self, path: str, **headers: str) -> dict[str, Any]:
        path, _, query = path.partition("?")
        written = [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()]
        return {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": f"/{path}",
            "query_string": query.encode(),
            "headers": [(b"host", b"testserver"), *written],
            "client": (PEER, 50000),
            "server": ("testserver", 80),
        }

    def events(self, fields: str = "action, actor_id") -> list[Any]:
        """These fields of all events in the order in which they were made; single values if it is one."""
        from usersync.contrib.django import audit  # noqa: PLC0415 - once the project is set up

        assert audit.flush()
        rows = self.owner.execute(f"select {fields} from public.audit_logs order by id").fetchall()
        return [row[0] for row in rows] if rows and len(rows[0]) == 1 else rows

    def user(self, name: str) -> Any:
        from django.contrib.auth.models import User  # noqa: PLC0415 - likewise

        return User.objects.create_user(name)

    def cookie(self, user: Any) -> str:
        """What the browser of somebody sends who is signed in."""
        from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY  # noqa: PLC0415
        from django.contrib.sessions.backends.db import SessionStore  # noqa: PLC0415

        session = SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.save()
        return f"sessionid={session.session_key}"


@pytest.fixture
def configure(tmp_path: Path, django_project: None) -> Iterator[Callable[..., None]]:
    """Set ``USERSYNC`` and other settings, until the test ends."""
    overrides: list[override_settings] = []

    def set_to(*, django: dict[str, Any] | None = None, **usersync: Any) -> None:
        usersync = {"AUDIT": {"spool_dir": tmp_path / "spool", "exit_timeout": 0}, **usersync}
        overrides.append(override_settings(USERSYNC=usersync, **(django or {})))
        overrides[-1].enable()

    set_to()
    yield set_to
    while overrides:
        overrides.pop().disable()
    deadline = time.monotonic() + 20
    while any(each.name == "usersync-audit" for each in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def site(
    database: SupabaseDatabase, use: Callable[..., None], configure: Callable[..., None]
) -> Iterator[Site]:
    use(default=described(database))
    with database.connect() as owner:
        yield Site(database, owner)
