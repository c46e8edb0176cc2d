"""For procrastinate: sends the audit context with each job to its worker.

::

    app = App(connector=PsycopgConnector())
    pass_context(app)  # in the module of the app, which the web application and the workers import
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from usersync.config.extras import needed
from usersync.contrib.carrying import KEY, carried_context, resumed_context

with needed("procrastinate", "usersync.contrib.procrastinate"):
    from procrastinate.manager import JobManager

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from procrastinate import App, JobContext
    from procrastinate.jobs import Job
    from procrastinate.worker import Worker

__all__ = ["pass_context", "resume_context"]


def pass_context(app: App) -> None:
    """Send the actor, the request id and the tenant with each job, and run each job with them.

    A job that was deferred without a context runs in an empty one, periodic jobs among them. The context is
    an argument of the job, ``usersync_context``, which the task does not get. If you pass
    ``worker_middleware`` to ``run_worker()``, begin it with ``resume_context``. Calling it again has no
    effect.
    """
    if isinstance(app.job_manager, _JobManager):
        return
    app.job_manager = _JobManager(app.connector)
    others = app.worker_defaults.get("worker_middleware") or []
    app.worker_defaults = {**app.worker_defaults, "worker_middleware": [resume_context, *others]}


async def resume_context(
    call_next: Callable[[], Awaitable[Any]],
    context: JobContext,
    worker: Worker,  # noqa: ARG001 - procrastinate passes it
) -> Any:
    """The worker middleware that runs a job with its context."""
    with resumed_context(context.job.task_kwargs.pop(KEY, None)):
        return await call_next()


class _JobManager(JobManager):
    async def batch_defer_jobs_async(self, jobs: list[Job], *args: Any, **options: Any) -> list[Job]:
        return await super().batch_defer_jobs_async(_with_context(jobs), *args, **options)

    def batch_defer_jobs(self, jobs: list[Job], *args: Any, **options: Any) -> list[Job]:
        return super().batch_defer_jobs(_with_context(jobs), *args, **options)


def _with_context(jobs: list[Job]) -> list[Job]:
    context = carried_context()
    if not context:
        return jobs
    return [each.evolve(task_kwargs={**each.task_kwargs, KEY: context}) for each in jobs]
