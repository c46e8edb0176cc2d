"""The actor and the request: fields that every event recorded in a context gets.

All logs of a process share one context, kept in a ``ContextVar``: each thread and each task sees its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import FunctionType, MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any

from usersync.audit.event.objects import class_name, fields_of

if TYPE_CHECKING:
    from collections.abc import Iterator

FIELDS = frozenset(
    (
        "actor_id",
        "actor_type",
        "user_id",
        "request_id",
        "ip",
        "user_agent",
        "tenant_id",
        "on_behalf_of",
        "traceparent",
        "severity",
    )
)

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Context:
    """The fields of one ``with`` block. Threads and tasks that started in the block share them."""

    __slots__ = ("fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields


_current: ContextVar[Context | None] = ContextVar("usersync_audit_context", default=None)


def current() -> Mapping[str, Any]:
    """The fields of the innermost context."""
    context = _current.get()
    return context.fields if context is not None else _NOTHING


def amend(fields: Mapping[str, Any]) -> bool:
    """Override fields of the innermost context, for every thread and task that shares it. False without a
    context.
    """
    context = _current.get()
    if context is None:
        return False
    context.fields = merged(context.fields, fields)
    return True


@contextmanager
def begun(fields: Mapping[str, Any]) -> Iterator[Context]:
    """A context with only these fields, for a request, a job or a WebSocket.

    It inherits nothing from the current context. A server may start a request inside the context of the
    previous request on the same connection (uvicorn does so for pipelined requests and after a large upload),
    and that request may have another actor.
    """
    with resumed(Context(fields)) as context:
        yield context


@contextmanager
def entered(fields: Mapping[str, Any]) -> Iterator[Context]:
    """A context with these fields, inside the current one."""
    with resumed(Context(merged(current(), fields))) as context:
        yield context


@contextmanager
def resumed(context: Context) -> Iterator[Context]:
    """Continue temporarily in a context that was entered before, with all later changes to it."""
    token = _current.set(context)
    try:
        yield context
    finally:
        # A generator may be closed from a context other than the one in which it started.
        with contextlib.suppress(ValueError):
            _current.reset(token)


def merged(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    """``outer`` overridden by ``inner``. Fields that are not columns go to ``metadata``, which is merged.

    If ``inner`` has another actor, no field about the actor of ``outer`` is kept.
    """
    result = dict(outer)
    if "actor_id" in inner:
        result.pop("actor_type", None)
        result.pop("user_id", None)
        result.pop("on_behalf_of", None)
    metadata = as_dict(outer.get("metadata")) | as_dict(inner.get("metadata"))
    for name, value in inner.items():
        if name in FIELDS:
            result[name] = value
        elif name != "metadata":
            metadata[name] = value
    if metadata:
        result["metadata"] = metadata
    return result


def with_actor(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``fields`` with a callable ``actor`` replaced by what it returns: an id, or a mapping of fields.

    If the callable raises, the error is stored in the metadata.
    """
    find = fields.get("actor_id")
    if not isinstance(find, FunctionType | MethodType | partial):
        return fields
    rest = {name: value for name, value in fields.items() if name != "actor_id"}
    # Events that the callable itself records have no actor. Otherwise they would call it again, without end.
    token = _current.set(Context(rest))
    try:
        found = find()
    except Exception as error:  # noqa: BLE001 - recording never raises
        found = {"metadata": {"actor_unreadable": class_name(error)}}
    finally:
        _current.reset(token)
    return merged(rest, found if isinstance(found, Mapping) else {"actor_id": found})


def as_dict(value: object) -> dict[Any, Any]:
    """Return metadata as a dict, whatever type was passed."""
    if value is None:
        return {}
    try:
        fields = fields_of(value)
        return dict(fields) if fields is not None else {"value": value}
    except Exception:  # noqa: BLE001 - any value is stored in the event, and never raises
        return {"value": value}
