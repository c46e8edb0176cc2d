"""Who is acting, and in which request: fields that every event of a context gets.

One context for all logs of a process, kept in a ``ContextVar``: each thread and each task sees its own.
"""

from __future__ import annotations

import contextlib
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from usersync.audit.objects import fields_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FIELDS = frozenset(("actor_id", "actor_type", "user_id", "request_id", "ip", "user_agent"))

_current: ContextVar[Mapping[str, Any]] = ContextVar("usersync_audit_context", default=MappingProxyType({}))


def current() -> Mapping[str, Any]:
    """The fields of the innermost context."""
    return _current.get()


@contextmanager
def entered(fields: Mapping[str, Any]) -> Iterator[None]:
    token = _current.set(merged(_current.get(), fields))
    try:
        yield
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


def as_dict(value: object) -> dict[Any, Any]:
    """Metadata as a dict, whatever was given for it."""
    if value is None:
        return {}
    try:
        fields = fields_of(value)
        return dict(fields) if fields is not None else {"value": value}
    except Exception:  # noqa: BLE001 - whatever it is, it becomes part of the event and not an error
        return {"value": value}
