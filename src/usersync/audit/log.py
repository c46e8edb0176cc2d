"""The public class of the audit log."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

import psycopg

from usersync.audit import capture
from usersync.audit.delivery import inline, lifecycle
from usersync.audit.delivery.engine import Engine
from usersync.audit.delivery.protocol import UnavailableError
from usersync.audit.delivery.senders import sender_to
from usersync.audit.delivery.stats import describe_reject, one_line
from usersync.audit.event.action import Action
from usersync.audit.event.context import amend, begun, entered, merged
from usersync.audit.event.event import Event, EventArguments, EventBuilder
from usersync.audit.event.fields import ActionFields, ContextFields, EventFields, event_fault, faults
from usersync.audit.options import Options, default_spool_dir
from usersync.audit.reader import Reader, ReadingMethods
from usersync.audit.spool.address import RECORDING_ONLY, check_address, describe, destination_of
from usersync.audit.spool.quarantine import RetryResult, retry
from usersync.config.dsn import sealed
from usersync.config.redaction import Redactor, ValueKind
from usersync.errors import DatabaseError, redact_message
from usersync.transports.drivers import describe_error
from usersync.transports.processes import ForkSafeLock, leave_alone
from usersync.transports.psycopg import find_source, has_source

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from psycopg_pool import ConnectionPool

    from usersync.audit.delivery.engine import DrainResult
    from usersync.audit.delivery.inline import AsyncioConnection, BlockingConnection
    from usersync.audit.delivery.stats import AuditStats
    from usersync.audit.event.context import ContextBlock
    from usersync.audit.models import EventRecord
    from usersync.audit.options import AuditOptions, Durability
    from usersync.errors import SettingsError
    from usersync.transports.data_api import DataApi

#: The result of ``prepare()`` for a wrong argument, with ``strict=False``.
_NOT_RECORDED = Event("", b"")

#: Held while the first use of a log without a source creates its parts.
_FIRST_USE = ForkSafeLock()


class AuditLog(ReadingMethods):
    """Records who did what. Recording never fails and never delays the recorded work.

    ``source`` is a connection string; or a psycopg ``ConnectionPool``, from which the writer takes one
    connection for each batch; or a ``DataApi``; or the URL of NATS JetStream (``nats://…``), from which
    ``usersync worker --ingest`` stores the events. docs/audit.md has a table of the options. Invalid ones
    raise ``SettingsError`` here and nowhere else.

    A failure outside of the program (the database, the network, a disk) never raises, except with
    ``required``. A wrong call raises: an unknown argument or a wrong type ``ArgumentTypeError`` (a
    ``TypeError``), a value that is not allowed ``ArgumentValueError`` (a ``ValueError``). With
    ``strict=False``, such an event is counted as dropped instead.

    A method blocks only if its description says so. Create it at import: files, threads and connections are
    opened at the first event, and a forked process opens its own. All methods may be called from threads,
    tasks and signal handlers.
    """

    def __init__(
        self,
        source: str | ConnectionPool[Any] | DataApi,
        *,
        durability: Durability = Options.durability,
        spool_dir: Path | str | None = Options.spool_dir,
        project: str | None = Options.project,
        redact: Collection[str] = Options.redact,
        reveal: Collection[str] = Options.reveal,
        denied: Collection[type[BaseException]] = Options.denied,
        strict: bool = Options.strict,
        spool_bytes: int = Options.spool_bytes,
        memory_events: int = Options.memory_events,
        memory_bytes: int = Options.memory_bytes,
        event_bytes: int = Options.event_bytes,
        batch_events: int = Options.batch_events,
        batch_bytes: int = Options.batch_bytes,
        send_timeout: float = Options.send_timeout,
        keep_delivered: float | None = Options.keep_delivered,
        keep_bytes: int = Options.keep_bytes,
        exit_timeout: float = Options.exit_timeout,
    ) -> None:
        source = sealed(source)
        self._source = check_address(source)
        self._options = Options(
            durability=durability,
            spool_dir=spool_dir,
            project=project,
            redact=redact,
            reveal=reveal,
            denied=denied,
            strict=strict,
            spool_bytes=spool_bytes,
            memory_events=memory_events,
            memory_bytes=memory_bytes,
            event_bytes=event_bytes,
            batch_events=batch_events,
            batch_bytes=batch_bytes,
            send_timeout=send_timeout,
            keep_delivered=keep_delivered,
            keep_bytes=keep_bytes,
            exit_timeout=exit_timeout,
        )
        self._redactor = Redactor(self._options.redact, self._options.reveal)
        self._builder = self._new_builder()
        self._destination = destination_of(self._source, self._options.project)
        self._root = self._spool_root()
        self._reader = Reader(self._source)
        self._engine: Engine | None = None
        self._lock = threading.RLock()
        self._closed = False
        self._held: list[threading.RLock] = []
        self._exit_timeout: float = self._options.exit_timeout
        lifecycle.watch(self)

    @classmethod
    def from_env(cls, **options: Unpack[AuditOptions]) -> Self:
        """Create a log for ``SUPABASE_DB_URL`` or ``DATABASE_URL``, else for ``SUPABASE_URL`` and a secret
        key.

        These are read from the environment, ``.env.local`` and ``.env``. ``USERSYNC_SPOOL_DIR`` sets the
        directory of the spool. If none of them has a value, they are read again at the first use, which
        raises ``SettingsError`` if there is still none. So a module can be imported where no database is
        configured, for example to build documentation.
        """
        if has_source():
            return cls(find_source(), **options)
        Options(**options)  # Invalid options raise now.
        log = cls.__new__(cls)
        log.__dict__["_pending"] = options
        return log

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Called for an attribute that is missing: at the first use of a log without a source."""
            if name.startswith("__") or "_pending" not in self.__dict__:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            with _FIRST_USE:
                if "_pending" in self.__dict__:
                    self.__init__(find_source(), **self._pending)
                    del self._pending
            return getattr(self, name)

    @classmethod
    def recording_only(cls, **options: Unpack[AuditOptions]) -> Self:
        """Create a log without a database: this process records, and another process on the machine sends.

        The other process sends after this one has ended. ``record_in()`` works, because it uses your
        connection.
        """
        return cls(RECORDING_ONLY, **options)

    def __repr__(self) -> str:
        # A debugger may show a log whose constructor has raised.
        target = describe(self._source) if "_source" in self.__dict__ else "no database"
        return f"<{type(self).__name__}: {target}>"

    @property
    def _is_pending(self) -> bool:
        """Whether ``from_env()`` has found no connection string, and nothing has used the log since."""
        return "_pending" in self.__dict__

    def record(self, action: str, **event: Unpack[EventFields]) -> str | None:
        """Accept an event and return its id. Without room for it, return None; ``stats()`` counts such
        events.

        ``event`` are the fields of ``EventFields``; omitted ones come from ``context()``. ``before`` and
        ``after`` are mappings or models, of which the event stores the changed fields; ``changes`` is
        ``{"field": (old, new)}``.

        Never waits for the database, and raises only ``ArgumentTypeError`` and ``ArgumentValueError``. It
        returns when the event is in the spool, or in memory if that is the durability.
        """
        given = self._checked(action, event)
        return self._accept(given) if given is not None else None

    def context(self, **fields: Unpack[ContextFields]) -> ContextBlock:
        """Add these fields to every event that is recorded in the block, in this thread or task.

        Use the result in ``with`` or ``async with``. Fields of an inner context take precedence, and
        ``metadata`` is merged. ``actor_id`` may be a function, which is called for each event: it returns the
        id, or a mapping with ``actor_id``, ``actor_type`` and other fields. Raises ``ArgumentTypeError``
        for a name that is no field, and ``ArgumentValueError``.
        """
        return entered(self._valid_fields(fields))

    def new_context(self, **fields: Unpack[ContextFields]) -> ContextBlock:
        """Like ``context()``, but without the fields of the current context. Use it for jobs.

        A task or a thread pool that was started in a request may keep the request's context. Without this
        method, the request's actor would be recorded for every job that runs there later.
        """
        return begun(merged({}, self._valid_fields(fields)))

    def amend_context(self, **fields: Unpack[ContextFields]) -> bool:
        """Add fields that are known only now, such as the actor, to the current ``context()``.

        They apply to every thread and task that shares the context, including the caller's: for example a
        request whose context started before authentication. Returns False if there is no context; then
        nothing happens. Raises like ``context()``.
        """
        return amend(self._valid_fields(fields))

    def action(self, action: str, **fields: Unpack[ActionFields]) -> Action:
        """An event for a block of code, recorded with its outcome when the block ends.

        Use the result in ``with`` or ``async with``. An ``outcome`` that is passed here or set in the block
        is recorded, whether the block raises or not. Raises like ``record()``.
        """
        given = self._checked(action, fields, ActionFields)
        found = given or EventArguments(action)
        denied: tuple[type[BaseException], ...] = (PermissionError, *self._options.denied)
        return Action(found, self._accept, self._is_valid, denied, is_lost=given is None)

    @overload
    def record_in(
        self,
        connection: AsyncioConnection,
        action: str,
        *,
        required: bool = False,
        **event: Unpack[EventFields],
    ) -> Awaitable[str | None]: ...
    @overload
    def record_in(
        self,
        connection: BlockingConnection,
        action: str,
        *,
        required: bool = False,
        **event: Unpack[EventFields],
    ) -> str | None: ...

    def record_in(
        self, connection: Any, action: str, *, required: bool = False, **event: Unpack[EventFields]
    ) -> Any:
        """Record in the transaction of your connection: the event commits if and only if your work does.

        ``connection`` is from psycopg, SQLAlchemy (Connection or Session) or Django, or a ``SqlExecutor`` for
        another driver. For a connection of asyncio, await the result, or call ``arecord_in()``. ``event`` is
        what ``record()`` takes. Blocks for one statement.

        If it fails, your transaction stays usable, the event is counted as dropped, and the result is None.
        The event is not stored in any other way, because it would then survive a rollback. With ``required``,
        a failure raises ``DatabaseError``. In psycopg's pipeline mode, it raises the errors of your own
        earlier statements. Raises like ``record()``, and ``ArgumentTypeError`` for another kind of
        connection.
        """
        built = self._built(connection, action, event)
        if inline.is_async(connection):
            return self._store_async(connection, built, required=required)
        if (captured := self._captured(built)) is not None:
            return captured
        inline.settle(connection)
        try:
            event_id, payload = _event_or_raise(built)
            answer = inline.store(connection, payload)
        except Exception as error:  # noqa: BLE001 - P4: recording never raises, except with required
            self._not_stored(error, required=required)
            return None
        return None if self._rejected(answer, required=required) else event_id

    async def arecord_in(
        self,
        connection: AsyncioConnection,
        action: str,
        *,
        required: bool = False,
        **event: Unpack[EventFields],
    ) -> str | None:
        """``record_in()`` for asyncio.

        ``connection`` is from psycopg, asyncpg or SQLAlchemy (AsyncConnection or AsyncSession, with either
        driver), or an ``AsyncSqlExecutor`` for another driver. With a pool of asyncpg, the event is stored in
        a transaction of its own.
        """
        built = self._built(connection, action, event, "arecord_in")
        return await self._store_async(connection, built, required=required)

    def _built(
        self, connection: object, action: str, event: EventFields, method: str = "record_in"
    ) -> Event | Exception:
        """The event for ``record_in()``, or why there is none. With ``strict``, raises for a wrong call."""
        fault = inline.fault(connection, method) or event_fault(action, event)
        if fault is not None:
            if self._options.strict:
                raise fault
            return fault
        try:
            return self._builder.build(EventArguments(action, event))
        except Exception as error:  # noqa: BLE001 - P4: the caller handles it
            return error

    async def _store_async(self, connection: Any, built: Event | Exception, *, required: bool) -> str | None:
        if (captured := self._captured(built)) is not None:
            return captured
        await inline.settle_async(connection)
        try:
            event_id, payload = _event_or_raise(built)
            answer = await inline.store_async(connection, payload)
        except Exception as error:  # noqa: BLE001 - see record_in
            self._not_stored(error, required=required)
            return None
        return None if self._rejected(answer, required=required) else event_id

    def _captured(self, event: Event | Exception) -> str | None:
        """The id of an event that is captured, and therefore not stored. None if it is to be stored."""
        events = capture.capture_of(self)
        return None if events is None or isinstance(event, Exception) else capture.take(events, event)

    def _rejected(self, answer: inline.Answer, *, required: bool) -> int:
        """Handle rejected events, which count as not stored. Returns their number."""
        rejected: int = answer.get("rejected", 0)
        if rejected:
            error = RejectedError(describe_reject(*answer.get("rejects", ())[:1]))
            self._not_stored(error, rejected, required=required)
        elif not self._closed:
            self._running().maintain()
        return rejected

    def _not_stored(self, error: Exception, count: int = 1, *, required: bool) -> None:
        sqlstate, message = describe_error(error)
        reason = one_line(redact_message(sqlstate, message) if sqlstate is not None else message, 300)
        if required:
            # Our own errors have a hint.
            hint = _HINTS.get(sqlstate or "") or getattr(error, "hint", None)
            raise DatabaseError(
                f"the audit event was not stored: {reason}", hint=hint, sqlstate=sqlstate
            ) from error
        self._running().counters.drop(f"record_in: {type(error).__name__}: {reason}", count)

    def prepare(self, action: str, **event: Unpack[EventFields]) -> Event:
        """Create an event now that may be recorded later. Raises like ``record()``.

        ``event`` is what ``record()`` takes. Time, context and values are taken now.
        """
        given = self._checked(action, event)
        return self._builder.build(given) if given is not None else _NOT_RECORDED

    def record_prepared(self, event: Event) -> str | None:
        """Like ``record()``, for an event from ``prepare()``."""
        return self._accept(event) if event.id else None

    def record_prepared_in(self, connection: Any, events: Sequence[Event], *, required: bool = False) -> int:
        """Like ``record_in()``, for events from ``prepare()``, in one statement. Returns how many were
        stored.

        ``connection`` must be a blocking one. Blocks for one statement.
        """
        fault = inline.fault(connection, "record_prepared_in")
        if fault is not None and self._options.strict:
            raise fault
        if (captured := capture.capture_of(self)) is not None and fault is None:
            return len([capture.take(captured, event) for event in events if event.id])
        payloads = [event.payload for event in events if event.id]
        try:
            if fault is not None:
                raise fault
            answer = inline.store(connection, *payloads)
        except Exception as error:  # noqa: BLE001 - see record_in
            self._not_stored(error, len(payloads), required=required)
            return 0
        return len(payloads) - self._rejected(answer, required=required)

    def captured(self) -> AbstractContextManager[list[EventRecord]]:
        """Collect the events that this log records in the block, and do not store them. For tests.

        ::

            with audit.captured() as events:
                place_order()
            assert [event.action for event in events] == ["order.placed"]

        No database is needed, for ``record_in()`` either. Events of all threads and tasks are collected.
        Fields that the database fills in, such as ``recorded_at``, are None. For the logs of a whole process,
        use ``usersync.testing.captured_events()`` or the fixture ``usersync_events``.
        """
        return capture.captured(self)

    def redacts(self, name: str, kind: ValueKind = "other") -> bool:
        """Whether a value of this kind (a text, if omitted) under this name is recorded as ``[redacted]``."""
        return self._redactor.is_secret(name, kind)

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until the events accepted so far are in the database. Returns whether they are. Blocks.

        Tries at once, even if the writer is waiting because the database was unavailable.
        """
        engine = self._engine
        return engine.flush(timeout) if engine is not None else True

    async def aflush(self, timeout: float = 10.0) -> bool:  # noqa: ASYNC109 - that of flush()
        """``flush()`` for asyncio: does not block the event loop."""
        return await asyncio.to_thread(self.flush, timeout)

    def drain(self, timeout: float = 60.0) -> bool:
        """``flush()``, and send the events that dead processes have left on this machine. Blocks.

        Also returns False if a file is not readable, or if events in this database's spool are for another
        database.
        """
        return bool(self.drain_all(timeout))

    def drain_all(self, timeout: float = 60.0, *, confirmed: bool = False) -> DrainResult:
        """Like ``drain()``, but returns details. Blocks.

        With ``confirmed``, all events in this spool are sent to this database, whatever the files say.
        """
        return self._running().drain(timeout, is_confirmed=confirmed)

    def retry_quarantined(self) -> RetryResult:
        """Retry the quarantined events in the spools of all processes on this machine. Blocks.

        Use it after the cause, for example a trigger of the application, was fixed. Each event is stored
        once, however often it is retried. Raises ``DatabaseError`` if the database accepts no events.
        """
        if self._source is None or self._root is None:
            return RetryResult()
        sender = sender_to(self._source, self._options.send_timeout)
        try:
            return retry(self._root, sender, self._options, self._destination)
        except (UnavailableError, psycopg.Error) as error:
            raise DatabaseError(
                f"the quarantined events could not be retried: {' '.join(str(error).split())[:300]}",
                hint="They are still in the spool. Try again when the database accepts events.",
            ) from error
        finally:
            sender.close()

    def close(self, timeout: float = 10.0) -> bool:
        """``flush()``, stop the writer, and record no more. Unsent events stay in the spool. Blocks."""
        if self._is_pending:
            return True
        with self._lock:
            self._closed = True
            engine = self._engine
        lifecycle.release(self)
        self._reader.close()
        return engine.close(timeout) if engine is not None else True

    async def aclose(self, timeout: float = 10.0) -> bool:  # noqa: ASYNC109 - that of close()
        """``close()`` for asyncio: does not block the event loop."""
        if self._is_pending:
            return True
        closed = await asyncio.to_thread(self.close, timeout)
        await self.close_readers()
        return closed

    async def close_readers(self) -> None:
        """Close the connections that reading has opened. A later read opens new ones. Recording goes on."""
        await self._reader.close_async()

    def stats(self) -> AuditStats:
        """Counters of recorded, sent and waiting events of this process."""
        return self._running().stats()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _accept(self, given: EventArguments | Event) -> str | None:
        engine = self._engine
        try:
            if (captured := capture.capture_of(self)) is not None:
                event = self._builder.build(given) if isinstance(given, EventArguments) else given
                return capture.take(captured, event)
            if engine is None or engine.pid != os.getpid():
                engine = self._running()
            if self._closed:
                engine.counters.drop("the log is closed")
                return None
            event = self._builder.build(given) if isinstance(given, EventArguments) else given
            if engine.accept(event.payload):
                return event.id
        except Exception as error:  # noqa: BLE001 - P4: recording never raises
            with suppress(Exception):
                self._running().counters.drop(type(error).__name__)
        return None

    def _running(self) -> Engine:
        with self._lock:
            if self._engine is not None and self._engine.pid != os.getpid():
                self._forget()
            engine = self._engine or Engine(self._source, self._root, self._options, self._destination)
            # A signal handler may have recorded meanwhile, and created an engine.
            if self._engine is None:
                self._engine = engine
                if not self._closed:
                    lifecycle.keep(self)
            return self._engine

    def _new_builder(self) -> EventBuilder:
        return EventBuilder(self._redactor, self._options.event_bytes)

    def _spool_root(self) -> Path | None:
        if self._options.durability == "memory":
            return None
        return Path(self._options.spool_dir or default_spool_dir()) / self._destination.directory

    def _lock_for_fork(self) -> None:
        """Called before a fork: no other thread may be creating files, or be inside SQLite."""
        self._lock.acquire()
        self._held = [self._lock]
        for lock in self._engine.intake.locks() if self._engine is not None else []:
            lock.acquire()
            self._held.append(lock)

    def _unlock_after_fork(self) -> None:
        """Called in the parent after a fork."""
        while self._held:
            self._held.pop().release()

    def _forget(self) -> None:
        """Called in a forked child: the files, the writer and the connection belong to the parent."""
        engine, self._engine, self._lock = self._engine, None, threading.RLock()
        # A new lock: another thread of the parent may have held the old one, which then stays locked.
        self._builder = self._new_builder()
        self._held = []
        if engine is not None:
            leave_alone(engine, engine.descriptors())

    def _end(self, timeout: float) -> None:
        """Called at the interpreter's exit. Recording still works: events go to the spool, for the next
        process.
        """
        engine = self._engine
        if engine is not None and not self._closed:
            engine.close(timeout, keep_recording=True)

    def _checked(
        self, action: str, event: Mapping[str, Any], kind: type = EventFields
    ) -> EventArguments | None:
        """The arguments, or None if one is wrong and was counted as a loss."""
        fault = event_fault(action, event, kind)
        if fault is None:
            return EventArguments(action, event)
        self._count_fault(fault)
        return None

    def _valid_fields(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """The fields of a context, without those that are wrong and were counted as a loss."""
        wrong = faults(fields, ContextFields)
        for fault in wrong.values():
            self._count_fault(fault)
        return {name: value for name, value in fields.items() if name not in wrong} if wrong else fields

    def _is_valid(self, fields: Mapping[str, object]) -> bool:
        wrong = faults(fields)
        for fault in wrong.values():
            self._count_fault(fault)
        return not wrong

    def _count_fault(self, fault: SettingsError) -> None:
        if self._options.strict:
            raise fault
        self._running().counters.drop(str(fault))


class RejectedError(Exception):
    """The database rejected the event. The message names the event and the reason."""

    hint = "Correct the event. If you roll back, it is not in usersync.audit_rejects either."


#: By SQLSTATE: the function does not exist.
_HINTS = {"42883": "Is usersync installed in this database? Run: usersync apply"}


def _event_or_raise(built: Event | Exception) -> Event:
    if isinstance(built, Exception):
        raise built
    return built
