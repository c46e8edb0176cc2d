"""Who is acting, and in which request: fields that every event of a context gets.

One context for all logs of a process, kept in a ``ContextVar``: each thread and each task sees its own.
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

FIELDS = frozenset(("actor_id", "actor_type", "user_id", "request_id", "ip", "user_agent"))

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Context:
    """The fields of one ``with`` block. Threads and tasks that were begun in the block share it."""

    __slots__ = ("fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields


_current: ContextVar[Context | None] = ContextVar("usersync_audit_context", default=None)


def current() -> Mapping[str, Any]:
    """The fields of the innermost context."""
    context = _current.get()
    return context.fields if context is not None else _NOTHING


def amend(fields: Mapping[str, Any]) -> bool:
    """Override fields of the innermost context, for all who share it; whether there is one."""
    context = _current.get()
    if context is None:
        return False
    context.fields = merged(context.fields, fields)
    return True


@contextmanager
def begun(fields: Mapping[str, Any]) -> Iterator[Context]:
    """A context with these fields alone, for a request, a job or a WebSocket.

    Nothing of the context that is current goes into it. A server may start a request inside of the context of
    the request before it on the same connection: uvicorn does so when requests are pipelined, and after a
    large upload. That request's actor is not this one's.
    """
    with resumed(Context(fields)) as context:
        yield context


@contextmanager
def entered(fields: Mapping[str, Any]) -> Iterator[Context]:
    """A context with these fields, inside of the one that is open."""
    with resumed(Context(merged(current(), fields))) as context:
        yield context


@contextmanager
def resumed(context: Context) -> Iterator[Context]:
    """Go on in a context that was entered before, for a while: it is what it has become since."""
    token = _current.set(context)
    try:
        yield context
    finally:
        # A generator that is closed from elsewhere leaves in a context in which it did not enter.
        with contextlib.suppress(ValueError):
            _current.reset(token)


def merged(outer: Mapping[str, Any], inner: Mapping[str, Any]) -> dict[str, Any]:
    """``outer`` overridden by ``inner``; fields that are no column go to ``metadata``, which is merged.

    Another actor brings nothing along of the actor of ``outer``.
    """
    result = dict(outer)
    if "actor_id" in inner:
        result.pop("actor_type", None)
        result.pop("user_id", None)
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
    """``fields`` with the actor in the place of a function that knows who it is.

    Such a function returns an id, or a mapping of fields if it knows more than that. What it raises becomes
    part of the metadata.
    """
    find = fields.get("actor_id")
    if not isinstance(find, FunctionType | MethodType | partial):
        return fields
    rest = {name: value for name, value in fields.items() if name != "actor_id"}
    # Whatever it records by itself has no actor, because asking once more would never end.
    token = _current.set(Context(rest))
    try:
        found = find()
    except Exception as error:  # noqa: BLE001 - recording never raises
        found = {"metadata": {"actor_unreadable": class_name(error)}}
    finally:
        _current.reset(token)
    return merged(rest, found if isinstance(found, Mapping) else {"actor_id": found})


def as_dict(value: object) -> dict[Any, Any]:
    """Metadata as a dict, whatever was given for it."""
    if value is None:
        return {}
    try:
        fields = fields_of(value)
        return dict(fields) if fields is not None else {"value": value}
    except Exception:  # noqa: BLE001 - whatever it is, it becomes part of the event and not an error
        return {"value": value}
