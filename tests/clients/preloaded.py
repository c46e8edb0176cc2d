"""What gunicorn loads before it forks its workers: a client that has a connection already."""

import os
import uuid

from usersync import UserSync

client = UserSync(os.environ["DSN"])
client.user_exists(uuid.UUID(int=7))


def application(environ, start_response):
    """Say whether the user of the path exists, and which process says so."""
    exists = client.user_exists(environ["PATH_INFO"].strip("/"))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{exists} {os.getpid()}".encode()]
