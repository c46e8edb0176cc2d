"""Python functions that handle events."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from usersync.audit.models import EventFilter
from usersync.errors import ArgumentTypeError, ArgumentValueError, SettingsError
from usersync.transports.drivers import full_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
#: With the usual back-off, the last of 12 attempts is about a day after the first.
ATTEMPTS, MOST_ATTEMPTS = 12, 100
TIME_LIMIT_S, LONGEST_S = 60.0, 3_600


@dataclass(frozen=True)
class Handler:
    """A function, and the events that it wants."""

    name: str
    function: Callable[..., Any]
    #: Actions, and prefixes that end in a star.
    actions: tuple[str, ...]
    #: Further filters, as ``EventFilter.describe()`` returns them.
    wanted: Mapping[str, Any]
    transactional: bool
    attempts: int
    time_limit: float

    @property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function."""
        return _is(inspect.iscoroutinefunction, self.function)

    @property
    def config(self) -> dict[str, Any]:
        """What the subscription stores of it, for people."""
        return {
            "transactional": self.transactional,
            "attempts": self.attempts,
            "time_limit": self.time_limit,
        }


@dataclass
class Handlers:
    """The handlers of an application. ``usersync worker module:name`` calls them.

    Register them with ``usersync subscriptions sync module:name``: a worker refuses handlers that the
    database does not know.
    """

    _handlers: dict[str, Handler] = field(default_factory=dict)
    _reference: str = field(default="MODULE:NAME", init=False, repr=False, compare=False)

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def __len__(self) -> int:
        return len(self._handlers)

    def on(
        self,
        *actions: str,
        name: str | None = None,
        transactional: bool = False,
        attempts: int = ATTEMPTS,
        time_limit: float = TIME_LIMIT_S,
        entity_type: str | None = None,
        outcome: str | None = None,
        tenant_id: UUID | str | int | None = None,
    ) -> Callable[[F], F]:
        """Register a function, blocking or async, for events with one of these actions.

        An action that ends in ``*`` is a prefix. The function gets the event, a ``NumberedEvent``. The other
        filters apply in addition. ``name`` is the name of the subscription. Default: the function's name.

        Without ``transactional``, the function is called at least once for each event: after a crash, some
        events are handled again, with the same ``event.id``. With ``transactional``, the function gets the
        event and a psycopg connection (an async function an ``AsyncConnection``) in a transaction that also
        stores the position of the subscription. So its changes are stored exactly once. It must not commit.

        A function that raises, or runs for more than ``time_limit`` seconds, is called again: after seconds,
        then minutes, then hours. After this number of ``attempts`` the event is dead. Later events of the
        same entity wait.

        Raises ``ArgumentTypeError`` and ``ArgumentValueError`` for an invalid registration.
        """
        wanted = EventFilter(entity_type=entity_type, outcome=outcome, tenant_id=tenant_id).describe()
        _check_actions(actions)
        if isinstance(attempts, bool) or not isinstance(attempts, int) or not 1 <= attempts <= MOST_ATTEMPTS:
            raise ArgumentValueError(f"attempts: expected 1 to {MOST_ATTEMPTS}, got {attempts!r:.80}")
        if (
            isinstance(time_limit, bool)
            or not isinstance(time_limit, int | float)
            or not 0 < time_limit <= LONGEST_S
        ):
            raise ArgumentValueError(
                f"time_limit: expected a number up to {LONGEST_S} seconds, got {time_limit!r:.80}"
            )

        def register(function: F) -> F:
            self._add(
                Handler(
                    name if name is not None else getattr(function, "__name__", ""),
                    function,
                    tuple(dict.fromkeys(actions)),
                    wanted,
                    bool(transactional),
                    attempts,
                    float(time_limit),
                )
            )
            return function

        return register

    def _add(self, handler: Handler) -> None:
        if not callable(handler.function):
            raise ArgumentTypeError(f"a handler is a function, not {full_name(type(handler.function))}")
        check_name(handler.name)
        if handler.name in self._handlers:
            raise ArgumentValueError(
                f"name: there are two handlers {handler.name!r}", hint="Pass another name: on(…, name='…')."
            )
        _check_parameters(handler)
        self._handlers[handler.name] = handler


def check_name(name: object) -> None:
    """Raise ``ArgumentValueError`` unless it is the name of a subscription."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ArgumentValueError(
            f"name: {name!r:.80} is not the name of a subscription",
            hint="Use up to 63 of the characters a-z, 0-9, '.', '_' and '-', beginning with a letter or a "
            "digit.",
        )


def _check_actions(actions: tuple[object, ...]) -> None:
    if not actions:
        raise ArgumentValueError(
            "on() needs an action", hint='For example on("user.created"), or on("*") for all events.'
        )
    for each in actions:
        if not isinstance(each, str):
            raise ArgumentTypeError(
                f"on() takes actions, not {full_name(type(each))}", hint='Write @handlers.on("user.created").'
            )
        EventFilter(action=each)


def _check_parameters(handler: Handler) -> None:
    given = ("event", "connection") if handler.transactional else ("event",)
    try:
        inspect.signature(handler.function).bind(*given)
    except TypeError:
        raise ArgumentTypeError(
            f"the handler {handler.name!r} must be callable as {handler.name}({', '.join(given)})",
            hint="With transactional=True a handler takes (event, connection), otherwise (event).",
        ) from None
    except ValueError:
        pass  # Some built-in functions have no signature.
    if any(_is(each, handler.function) for each in (inspect.isgeneratorfunction, inspect.isasyncgenfunction)):
        raise ArgumentTypeError(f"the handler {handler.name!r} is a generator, so a call does nothing")


def _is(question: Callable[[Any], bool], function: Callable[..., Any]) -> bool:
    """Whether a function, or the ``__call__`` of an object, is of a sort."""
    return question(function) or question(getattr(function, "__call__", None))  # noqa: B004 - the method itself


def reference_of(handlers: Handlers | None) -> str:
    """The ``module:name`` that they were loaded from, for a command in a hint."""
    return (Handlers() if handlers is None else handlers)._reference  # noqa: SLF001 - of this module


def load_handlers(reference: str) -> Handlers:
    """Import ``module:name``. Raises ``SettingsError``, and what the module raises."""
    module, _, name = reference.partition(":")
    if not module or not name:
        raise SettingsError(
            f"{reference!r} does not name handlers",
            hint="Write MODULE:NAME, for example myapp.events:handlers.",
        )
    try:
        found: Any = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise
        raise SettingsError(
            f"the module {module} does not exist", hint="Run the command in the directory that contains it."
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise SettingsError(
                f"the module {module} has no {name}",
                hint=f"Create it in the module: {name} = Handlers()",
            )
        found = getattr(found, part)
    if not isinstance(found, Handlers):
        raise SettingsError(
            f"{reference} is not an object of usersync.Handlers, but of {full_name(type(found))}",
            hint=f"Create it in the module: {name} = Handlers()",
        )
    found._reference = reference  # noqa: SLF001 - of this module
    return found
