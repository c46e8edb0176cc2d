"""The Django project of the tests, served over WSGI and ASGI."""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults

from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections

if TYPE_CHECKING:
    import psycopg

    from usersync.testing import SupabaseDatabase

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


#: The peer's address.
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


@dataclass
class Answer:
    """The response."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Site:
    """The project as its servers call it, and its events."""

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
        await communicator.wait(90)
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
        """These fields of all events in their order; single values for one field."""
        from usersync.contrib.django import audit  # noqa: PLC0415 - once the project is set up

        assert audit.flush()
        rows = self.owner.execute(f"select {fields} from public.audit_logs order by id").fetchall()
        return [row[0] for row in rows] if rows and len(rows[0]) == 1 else rows

    def user(self, name: str) -> Any:
        from django.contrib.auth.models import User  # noqa: PLC0415 - likewise

        return User.objects.create_user(name)

    def cookie(self, user: Any) -> str:
        """The cookies of a signed-in user."""
        from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY  # noqa: PLC0415
        from django.contrib.sessions.backends.db import SessionStore  # noqa: PLC0415

        session = SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.save()
        return f"sessionid={session.session_key}"
