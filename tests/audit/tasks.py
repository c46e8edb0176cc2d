"""A Celery application whose clients are created and used when the module is imported."""

from __future__ import annotations

import os
from typing import Any
from uuid import UUID

from celery import Celery

from usersync import AuditLog, UserSync


def application(folder: str) -> Celery:
    """Celery with a broker in the file system."""
    # Sender and receiver use the same folder as the broker.
    options = dict.fromkeys(("data_folder_in", "data_folder_out", "control_folder"), folder)
    return Celery("tasks", broker="filesystem://", broker_transport_options=options)


if "TASKS_DSN" in os.environ:
    app = application(os.environ["TASKS_FOLDER"])
    sync = UserSync(os.environ["TASKS_DSN"])
    audit = AuditLog(os.environ["TASKS_DSN"], spool_dir=os.environ["TASKS_SPOOL"], project="tasks")
    audit.record("worker.started")
    sync.status()

    @app.task(name="order")
    def order(user_id: str, number: int) -> Any:
        """Record an event as this user, with a row in the users table."""
        with audit.context(actor_id=user_id):
            assert sync.ensure_user_exists(UUID(user_id))
            assert audit.record("order.placed", entity=("order", number))
