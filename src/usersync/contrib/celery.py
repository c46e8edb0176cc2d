"""For Celery: sends the audit context with each task to its worker.

::

    app = Celery("shop", broker=…)
    pass_context()  # in the module of the app, which the web application and the workers import
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from usersync.config.extras import needed
from usersync.contrib.carrying import KEY, carried_context, resumed_context

with needed("celery", "usersync.contrib.celery"):
    from celery import signals

if TYPE_CHECKING:
    from celery import Task

__all__ = ["pass_context"]

_OPENED = "_usersync_opened"


def pass_context() -> None:
    """Send the actor, the request id and the tenant with each task of this process, and begin each task with
    them.

    A task that was sent without a context begins with an empty one, so it has no field of the task before it.
    Retries, chains, groups and chords keep the context. The context is a header of the message, in clear.
    Calling it again has no effect.
    """
    signals.before_task_publish.connect(_send, dispatch_uid="usersync")
    signals.task_prerun.connect(_begin, dispatch_uid="usersync")
    signals.task_postrun.connect(_end, dispatch_uid="usersync")


def _send(headers: dict[str, Any] | None = None, **_: object) -> None:
    if headers is not None:
        # A task that is sent again has its own context.
        context = headers.get(KEY) or carried_context()
        if context:
            headers[KEY] = context


def _begin(task: Task, **_: object) -> None:
    request = task.request
    # A task that is called with apply() runs here, and was not sent.
    context = carried_context() if request.is_eager else request.get(KEY)
    opened = ExitStack()
    opened.enter_context(resumed_context(context))
    setattr(request, _OPENED, opened)


def _end(task: Task, **_: object) -> None:
    opened = getattr(task.request, _OPENED, None)
    if opened is not None:
        opened.close()
