"""The audit context as it is sent with a job to its worker, or with a request to the Data API.

It has the actor, the request, the tenant and the trace. It lacks the IP address and the user agent, which
belong to the request and not to the job, and the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from usersync.audit.event.context import begun, current, merged, with_actor
from usersync.audit.event.event import label
from usersync.audit.event.tracing import current_trace

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

#: The fields that are sent.
CARRIED = ("actor_id", "actor_type", "user_id", "on_behalf_of", "request_id", "tenant_id", "traceparent")

#: The key of the context in a job.
KEY = "usersync_context"


def carried_context() -> dict[str, str]:
    """The caller's context, as texts of at most 200 characters; empty without a context. Never raises.

    A callable actor is called now.
    """
    fields = current()
    if not fields:
        return {}
    known = {**with_actor(fields), **current_trace()}
    return {name: label(value) for name in CARRIED if (value := known.get(name)) is not None}


def resumed_context(given: object) -> AbstractContextManager[object]:
    """The context that was sent with a job; an empty one for a job without a context, or with a malformed
    one.
    """
    fields = given if isinstance(given, Mapping) else {}
    known = {name: fields[name] for name in CARRIED if isinstance(fields.get(name), str)}
    return begun(merged({}, known))


def as_text(context: Mapping[str, str]) -> str:
    """The context as JSON in ASCII, for a header."""
    return json.dumps(context, separators=(",", ":"))
