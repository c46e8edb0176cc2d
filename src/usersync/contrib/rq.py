"""For RQ: sends the audit context with each job to its worker.

::

    queue = Queue(connection=redis, job_class=ContextJob)

::

    rq worker --job-class usersync.contrib.rq.ContextJob
"""

from __future__ import annotations

from typing import Any

from usersync.config.extras import needed
from usersync.contrib.carrying import KEY, carried_context, resumed_context

with needed("rq", "usersync.contrib.rq"):
    from rq.job import Job

__all__ = ["ContextJob"]


class ContextJob(Job):
    """A job that has the actor, the request id and the tenant of the code that created it.

    They are in ``job.meta``. A job without a context runs in an empty one. Give the class to the queues and
    to the workers; a worker without it runs the jobs without a context.
    """

    @classmethod
    def create(cls, *args: Any, **options: Any) -> Any:
        """See ``rq.job.Job.create()``."""
        if context := carried_context():
            options["meta"] = {**(options.get("meta") or {}), KEY: context}
        return super().create(*args, **options)

    def perform(self) -> Any:
        """See ``rq.job.Job.perform()``."""
        with resumed_context(self.meta.get(KEY)):
            return super().perform()
