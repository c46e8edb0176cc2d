"""The application that gunicorn loads before it forks its workers.

Its audit log has already recorded an event.
"""

from __future__ import annotations

import os
from typing import Any

from usersync import AuditLog
from usersync.contrib.wsgi import AuditContextMiddleware

audit = AuditLog(os.environ["DSN"], spool_dir=os.environ["SPOOL"], project="test")
audit.record("server.loaded")


def _respond(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    number = environ["PATH_INFO"].strip("/")
    with audit.context(actor_id=number):
        accepted = audit.record("order.placed", entity=("order", number))
        # With greenlets, the other requests of this worker continue meanwhile.
        delivered = audit.flush(30)
        accepted = accepted and audit.record("order.paid", entity=("order", number))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{bool(accepted)} {delivered} {os.getpid()}".encode()]


application = AuditContextMiddleware(_respond)
