"""The application that gunicorn loads before it forks its workers. Its client is already connected."""

import os
import uuid

from usersync import UserSync

client = UserSync(os.environ["DSN"])
client.user_exists(uuid.UUID(int=7))


def application(environ, start_response):
    """Answer whether the path's user exists, and the id of the process."""
    exists = client.user_exists(environ["PATH_INFO"].strip("/"))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{exists} {os.getpid()}".encode()]
