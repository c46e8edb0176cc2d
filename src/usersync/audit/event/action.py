"""An event whose outcome depends on how a block of code ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from usersync.audit.event.context import as_dict
from usersync.audit.event.event import label
from usersync.audit.event.objects import class_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from usersync.audit.event.event import EventArguments


class Action:
    """What ``AuditLog.action()`` returns; a context manager for ``with`` and for ``async with``.

    The event is recorded when the block ends, with outcome ``succeeded``, ``failed`` or ``denied``. It is
    ``denied`` if the exception is one of the classes that mean a denial, and ``failed`` for any other
    exception or a cancelled task. The exception's class is stored as ``metadata["error"]``; its message is
    not, because it may hold secrets. The exception then propagates unchanged.
    """

    def __init__(
        self,
        record: Callable[[EventArguments], str | None],
        given: EventArguments,
        denied: tuple[type[BaseException], ...],
    ) -> None:
        self._record = record
        self._given = given
        self._denied = denied
        self._changes: dict[Any, Any] = {}
        #: Any other information about the event.
        self.metadata: dict[Any, Any] = {}
        #: Set it to override the outcome. If None, the way in which the block ends decides.
        self.outcome: str | None = None
        #: The event's id, set when the block has ended. None if the event was not accepted.
        self.id: str | None = None

    def change(self, field: str, old: object, new: object) -> None:
        """Record that a field changed. If called twice for a field, the first old and the last new value
        count.
        """
        name = label(field)
        first = self._changes.get(name, (old, new))[0]
        self._changes[name] = (first, new)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        outcome = self.outcome or self._outcome(error)
        metadata = as_dict(self._given.metadata) | as_dict(self.metadata)
        if error is not None:
            metadata.setdefault("error", class_name(error))
        changes = self._changes or None
        self.id = self._record(
            self._given._replace(outcome=outcome, metadata=metadata or None, changes=changes)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _outcome(self, error: BaseException | None) -> str:
        if error is None:
            return "succeeded"
        return "denied" if isinstance(error, self._denied) else "failed"
