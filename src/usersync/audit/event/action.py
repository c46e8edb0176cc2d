"""An event whose outcome depends on how a block of code ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from usersync.audit.event.context import as_dict
from usersync.audit.event.event import EventArguments, label
from usersync.audit.event.objects import class_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from usersync.audit.event.fields import Outcome


class Action:
    """What ``AuditLog.action()`` returns; a context manager for ``with`` and for ``async with``.

    The event is recorded when the block ends, with outcome ``succeeded``, ``failed`` or ``denied``. It is
    ``denied`` if the exception is one of the classes that mean a denial, and ``failed`` for any other
    exception or a cancelled task. The exception's class is stored as ``metadata["error"]``; its message is
    not, because it may hold secrets. The exception then propagates unchanged.
    """

    __slots__ = (
        "_changes",
        "_denied",
        "_given",
        "_id",
        "_is_lost",
        "_is_right",
        "_metadata",
        "_outcome",
        "_record",
    )

    def __init__(
        self,
        given: EventArguments,
        record: Callable[[EventArguments], str | None],
        is_right: Callable[[Mapping[str, object]], bool],
        denied: tuple[type[BaseException], ...],
        *,
        is_lost: bool = False,
    ) -> None:
        self._given = given
        self._record = record
        self._is_right = is_right
        self._denied = denied
        self._changes: dict[Any, Any] = dict(given.fields.get("changes") or {})  # type: ignore[call-overload]
        self._metadata: dict[Any, Any] = {}
        self._outcome: Outcome | None = given.fields.get("outcome")  # type: ignore[assignment]
        self._id: str | None = None
        # Whether a wrong argument was counted as a loss, which happens with strict=False only.
        self._is_lost = is_lost

    @property
    def id(self) -> str | None:
        """The event's id, when the block has ended. None if the event was not accepted."""
        return self._id

    @property
    def outcome(self) -> Outcome | None:
        """Set it to override the outcome. If it is None, the outcome depends on how the block ends.

        A value other than ``"succeeded"``, ``"failed"``, ``"denied"`` or None raises ``ValueError``.
        """
        return self._outcome

    @outcome.setter
    def outcome(self, outcome: Outcome | None) -> None:
        if self._check(outcome=outcome):
            self._outcome = outcome

    @property
    def metadata(self) -> dict[Any, Any]:
        """Any other information about the event. A value other than a dict raises ``TypeError``."""
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: Mapping[Any, Any]) -> None:
        if self._check(metadata=metadata):
            self._metadata = as_dict(metadata)

    def change(self, field: str, old: object, new: object) -> None:
        """Record that a field changed. If called twice for a field, the first old and the last new value
        count. Raises ``TypeError`` if ``field`` is not a string.
        """
        if self._check(changes={field: (old, new)} if isinstance(field, str) else field):
            name = label(field)
            first = self._changes.get(name, (old, new))[0]
            self._changes[name] = (first, new)

    def _check(self, **field: object) -> bool:
        is_right = self._is_right(field)
        self._is_lost |= not is_right
        return is_right

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_lost:
            return
        metadata = as_dict(self._given.fields.get("metadata")) | self._metadata
        if error is not None:
            metadata.setdefault("error", class_name(error))
        ended = {
            "outcome": self._outcome or self._outcome_of(error),
            "metadata": metadata or None,
            "changes": self._changes or None,
        }
        self._id = self._record(EventArguments(self._given.action, {**self._given.fields, **ended}))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _outcome_of(self, error: BaseException | None) -> Outcome:
        if error is None:
            return "succeeded"
        return "denied" if isinstance(error, self._denied) else "failed"
