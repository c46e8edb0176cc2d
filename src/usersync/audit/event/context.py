"""The actor and the request: fields that every event recorded in a context gets.

All logs of a process share one context, kept in a ``ContextVar``: each thread and each task sees its own.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from contextvars import ContextVar, Token
from inspect import CO_GENERATOR
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from usersync.audit.event.fields import CONTEXT, FUNCTIONS
from usersync.audit.event.objects import class_name, fields_of
from usersync.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Context:
    """The fields of one ``with`` block. Threads and tasks that started in the block share them."""

    __slots__ = ("fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields: Mapping[str, Any] = fields


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


class ContextBlock:
    """A context manager for ``with`` and for ``async with``. It can be entered once."""

    __slots__ = ("_find", "_token")

    def __init__(self, find: Callable[[], Context]) -> None:
        self._find = find
        self._token: Token[Context | None] | None = None

    def __enter__(self) -> Context:
        context = self._find()
        self._token = _current.set(context)
        return context

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            # A generator may be closed from a context other than the one in which it started.
            with contextlib.suppress(ValueError):
                _current.reset(self._token)

    async def __aenter__(self) -> Context:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()


class InnerBlock(ContextBlock):
    """A context inside the current one.

    In a generator that a thread pool runs step by step, such as a synchronous generator dependency of
    FastAPI, a context variable loses its value after the first step. There the block changes the fields of
    the request's context instead, which the request shares with the pool's threads, and restores them at its
    end.
    """

    __slots__ = ("_fields", "_shared", "_taken")

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__(lambda: Context(merged(current(), fields)))
        self._fields = fields
        self._shared: Context | None = None

    def __enter__(self) -> Context:
        if not _is_step_of_thread_pool(sys._getframe(1)):  # noqa: SLF001 - who asks decides
            return super().__enter__()
        shared = _current.get()
        if shared is None:
            raise SettingsError(
                "a context in a synchronous generator that a thread pool runs has no effect",
                hint="Make the dependency or the generator `async def`, or add AuditContextMiddleware.",
            )
        before = shared.fields
        shared.fields = merged(before, self._fields)
        self._shared, self._taken = shared, (before, shared.fields)
        return shared

    def __exit__(self, *error: object) -> None:
        if self._shared is None:
            super().__exit__(*error)
            return
        before, after = self._taken
        fields = dict(self._shared.fields)
        for name in {*before, *after}:
            # Keep the fields that were amended in the meantime.
            if not _is_same(before.get(name), after.get(name)) and _is_same(
                fields.get(name), after.get(name)
            ):
                fields.pop(name, None)
                fields |= {name: before[name]} if name in before else {}
        self._shared.fields = fields


def _is_same(one: object, other: object) -> bool:
    """Compares by identity, because the values' own comparison may raise. ``merged()`` copies the
    metadata.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(one[name] is other[name] for name in one)
    return one is other


def _is_step_of_thread_pool(frame: FrameType | None) -> bool:
    """Whether a generator is called from a thread pool of AnyIO, which runs each step in a copy of the
    context.
    """
    if frame is None or not frame.f_code.co_flags & CO_GENERATOR:
        return False
    frame = frame.f_back
    while frame is not None and frame.f_globals.get("__name__") in _STEPPING:
        frame = frame.f_back
    return frame is not None and str(frame.f_globals.get("__name__")).startswith("anyio.")


#: Modules whose functions call the next step of a generator.
_STEPPING = frozenset(("contextlib", "starlette.concurrency"))


def begun(fields: Mapping[str, Any]) -> ContextBlock:
    """A context with only these fields, for a request, a job or a WebSocket.

    It inherits nothing from the current context. A server may start a request inside the context of the
    previous request on the same connection (uvicorn does so for pipelined requests and after a large upload),
    and that request may have another actor.
    """
    return resumed(Context(fields))


def entered(fields: Mapping[str, Any]) -> ContextBlock:
    """A context with these fields, inside the current one."""
    return InnerBlock(fields)


def resumed(context: Context) -> ContextBlock:
    """Continue temporarily in a context that was entered before, with all later changes to it."""
    return ContextBlock(lambda: context)


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
        if name in CONTEXT:
            result[name] = value
        elif name != "metadata":
            metadata[name] = value
    if metadata:
        result["metadata"] = metadata
    return result


def with_actor(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``fields`` with a callable ``actor`` replaced by what it returns: an id, or a mapping of fields.

    Keys that are no fields are stored in the metadata, under ``unknown``. If the callable raises, the error
    is stored in the metadata.
    """
    find = fields.get("actor_id")
    if not isinstance(find, FUNCTIONS):
        return fields
    rest = {name: value for name, value in fields.items() if name != "actor_id"}
    # Events that the callable itself records have no actor. Otherwise they would call it again, without end.
    token = _current.set(Context(rest))
    try:
        found = find()
        found = _known(found) if isinstance(found, Mapping) else {"actor_id": found}
    except Exception as error:  # noqa: BLE001 - recording never raises
        found = {"metadata": {"actor_unreadable": class_name(error)}}
    finally:
        _current.reset(token)
    return merged(rest, found)


def _known(found: Mapping[str, Any]) -> Mapping[str, Any]:
    unknown = {name: value for name, value in found.items() if name not in CONTEXT and name != "metadata"}
    if not unknown:
        return found
    known = {name: value for name, value in found.items() if name in CONTEXT}
    return {**known, "metadata": as_dict(found.get("metadata")) | {"unknown": unknown}}


def as_dict(value: object) -> dict[Any, Any]:
    """Return metadata as a dict, whatever type was passed."""
    if value is None:
        return {}
    try:
        fields = fields_of(value)
        return dict(fields) if fields is not None else {"value": value}
    except Exception:  # noqa: BLE001 - any value is stored in the event, and never raises
        return {"value": value}
