"""Jobs of RQ and Dramatiq that record an event, and one of each that fails once."""

from __future__ import annotations

import os
from pathlib import Path

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from usersync import AuditLog
from usersync.contrib.dramatiq import pass_context

broker = RedisBroker(url=os.environ["QUEUE_URL"])
dramatiq.set_broker(broker)
pass_context(broker)
pass_context(broker)
audit = AuditLog(os.environ["QUEUE_DSN"], spool_dir=os.environ["QUEUE_SPOOL"], project="queue")


def work(name: str, fails: str = "") -> str:
    """Record an event; with ``fails``, raise after it if the file is not there yet."""
    audit.record("job.run", entity=("job", name))
    if fails and not Path(fails).exists():
        Path(fails).touch()
        raise RuntimeError(name)
    return name


@dramatiq.actor(min_backoff=1, max_backoff=1, max_retries=1)
def worked(name: str, fails: str = "") -> str:
    """The same for Dramatiq."""
    return work(name, fails)


@dramatiq.actor
def followed(name: str) -> None:
    """The end of a pipeline."""
    work(f"{name}, followed")
