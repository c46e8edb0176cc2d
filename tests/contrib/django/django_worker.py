"""A worker that is killed while it serves a request: ``python django_worker.py DSN SPOOL wsgi|asgi``.

It prints ``recorded`` once the view has recorded, then waits in the view.
"""

from __future__ import annotations

import asyncio
import sys
from wsgiref.util import setup_testing_defaults

import django
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection, transaction
from django.urls import path
from psycopg.conninfo import conninfo_to_dict

from usersync.contrib.django import audit


def record() -> None:
    audit.record("work.begun")
    audit.record("work.went_on")
    print("recorded", flush=True)  # noqa: T201


def wait(request):
    with transaction.atomic():
        audit.record_in(connection, "work.committed")
        record()
        sys.stdin.read()


async def wait_async(request):
    record()
    await asyncio.sleep(3600)


urlpatterns = [path("wsgi", wait), path("asgi", wait_async)]


async def serve_async() -> None:
    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/asgi", "query_string": b""}
    communicator = ApplicationCommunicator(ASGIHandler(), {**scope, "headers": []})
    await communicator.send_input({"type": "http.request", "body": b""})
    await communicator.receive_output(3600)


def main(dsn: str, spool: str, how: str) -> None:
    given = conninfo_to_dict(dsn)
    keys = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                **{keys[key]: str(value) for key, value in given.items()},
            }
        },
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="for tests",  # noqa: S106
        MIDDLEWARE=["usersync.contrib.django.AuditContextMiddleware"],
        USERSYNC={"AUDIT": {"spool_dir": spool}},
    )
    django.setup()
    if how == "asgi":
        asyncio.run(serve_async())
    else:
        environ = {"PATH_INFO": "/wsgi", "HTTP_X_REQUEST_ID": "r"}
        setup_testing_defaults(environ)
        WSGIHandler()(environ, lambda *_: None)


if __name__ == "__main__":
    main(*sys.argv[1:])
