"""The public class of the audit log."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import psycopg

from usersync.audit.delivery import inline, lifecycle
from usersync.audit.delivery.api_sender import sender_to
from usersync.audit.delivery.engine import Engine
from usersync.audit.delivery.protocol import UnavailableError
from usersync.audit.delivery.stats import describe_database_error, describe_reject, one_line
from usersync.audit.event.action import Action
from usersync.audit.event.context import amend, begun, entered, merged
from usersync.audit.event.event import EventArguments, EventBuilder
from usersync.audit.event.redaction import Redactor
from usersync.audit.options import Options, default_spool_dir
from usersync.audit.reader import Reader, ReadingMethods
from usersync.audit.spool.address import check_address, destination_of
from usersync.audit.spool.quarantine import RetryResult, retry
from usersync.config.dsn import sealed
from usersync.errors import DatabaseError
from usersync.transports.processes import leave_alone
from usersync.transports.psycopg import find_source

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from contextlib import AbstractContextManager

    from psycopg_pool import ConnectionPool

    from usersync.audit.delivery.engine import DrainResult
    from usersync.audit.delivery.stats import AuditStats
    from usersync.audit.event.event import Event
    from usersync.transports.data_api import DataApi

Entity = tuple[str, object] | str | None


class AuditLog(ReadingMethods):
    """Records who did what. Recording never fails and never delays the recorded work.

    ``source`` is a connection string; or a psycopg ``ConnectionPool``, from which the writer takes one
    connection for each batch; or a ``DataApi``; or None if this process only records, and another process
    sends. ``options`` are those of ``Options``. Invalid ones raise ``SettingsError`` here and nowhere else.

    Creating it at import costs nothing: files, threads and connections are opened at the first event, and a
    forked process opens its own. All methods may be called from threads, tasks and signal handlers.
    """

    def __init__(self, source: str | ConnectionPool[Any] | DataApi | None = None, **options: Any) -> None:
        source = sealed(source)
        self._source = check_address(source)
        self._options = Options.of(options)
        self._redactor = Redactor(self._options.redact, self._options.reveal)
        self._builder = self._new_builder()
        self._destination = destination_of(self._source, self._options.project)
        self._root = self._spool_root()
        self._reader = Reader(self._source)
        self._engine: Engine | None = None
        self._lock = threading.RLock()
        self._closed = False
        self._held: list[threading.RLock] = []
        self.exit_timeout: float = self._options.exit_timeout
        lifecycle.watch(self)

    @classmethod
    def from_env(cls, **options: Any) -> Self:
        """Create a log for ``SUPABASE_DB_URL`` or ``DATABASE_URL``, else for ``SUPABASE_URL`` and a secret
        key.

        These are read from the environment, ``.env.local`` and ``.env``. ``USERSYNC_SPOOL_DIR`` sets the
        directory of the spool.
        """
        return cls(find_source(), **options)

    def record(
        self,
        action: str,
        *,
        entity: Entity = None,
        before: object = None,
        after: object = None,
        changes: object = None,
        outcome: Literal["succeeded", "failed", "denied"] = "succeeded",
        actor_id: object = None,
        actor_type: str | None = None,
        user_id: object = None,
        metadata: object = None,
        request_id: object = None,
        ip: object = None,
        user_agent: object = None,
        occurred_at: object = None,
        tenant_id: object = None,
        on_behalf_of: object = None,
        traceparent: str | None = None,
        severity: Literal["info", "low", "medium", "high", "critical"] | None = None,
    ) -> str | None:
        """Accept an event and return its id, or None if there is no room for it, which ``stats()`` counts.

        Never raises and never waits for the database. It returns when the event is in the spool, or in memory
        if that is the durability. ``before`` and ``after`` are mappings or models, of which the event stores
        the changed fields; ``changes`` is ``{"field": (old, new)}``. Omitted fields come from ``context()``.
        ``occurred_at`` defaults to now; a time without a zone is taken as UTC. ``tenant_id`` is the customer
        (organisation) that the event belongs to. With impersonation, ``actor_id`` is the person who really
        acts, and ``on_behalf_of`` the user as whom. ``traceparent`` is a W3C trace context.
        """
        fields = {
            "actor_id": actor_id,
            "actor_type": actor_type,
            "user_id": user_id,
            "request_id": request_id,
            "ip": ip,
            "user_agent": user_agent,
            "tenant_id": tenant_id,
            "on_behalf_of": on_behalf_of,
            "traceparent": traceparent,
            "severity": severity,
        }
        return self._accept(
            EventArguments(action, entity, before, after, changes, outcome, occurred_at, metadata, fields)
        )

    def context(self, **fields: Any) -> AbstractContextManager[object]:
        """Add these fields to every event that is recorded in the block, in this thread or task.

        Fields of an inner context take precedence. Names that are not event fields become part of
        ``metadata``. ``actor_id`` may be a function, which is called for each event: it returns the id, or a
        mapping with ``actor_id``, ``actor_type`` and any other fields.
        """
        return entered(fields)

    def new_context(self, **fields: Any) -> AbstractContextManager[object]:
        """Like ``context()``, but without the fields of the current context. Use it for jobs.

        A task or a thread pool that was started in a request may keep the request's context. Without this
        method, the request's actor would be recorded for every job that runs there later.
        """
        return begun(merged({}, fields))

    def amend_context(self, **fields: Any) -> bool:
        """Add fields that are known only now, such as the actor, to the current ``context()``.

        They apply to every thread and task that shares the context, including the caller's: for example a
        request whose context started before authentication. Returns False if there is no context; then
        nothing happens.
        """
        return amend(fields)

    def action(self, action: str, *, entity: Entity = None, metadata: object = None, **fields: Any) -> Action:
        """An event for a block of code, recorded with its outcome when the block ends.

        ``fields`` are those of ``context()``.
        """
        given = EventArguments(action, entity, metadata=metadata, fields=fields)
        return Action(self._accept, given, (PermissionError, *self._options.denied))

    @overload
    def record_in(
        self, connection: psycopg.AsyncConnection[Any], action: str, *, required: bool = False, **event: Any
    ) -> Awaitable[str | None]: ...
    @overload
    def record_in(
        self, connection: psycopg.Connection[Any], action: str, *, required: bool = False, **event: Any
    ) -> str | None: ...
    @overload
    def record_in(self, connection: Any, action: str, *, required: bool = False, **event: Any) -> Any: ...

    def record_in(self, connection: Any, action: str, *, required: bool = False, **event: Any) -> Any:
        """Record in the transaction of your connection: the event commits if and only if your work does.

        ``connection`` is from psycopg, SQLAlchemy (Connection or Session) or Django; for an asynchronous one,
        await the result. ``event`` is what ``record()`` takes. Blocks for one statement.

        If it fails, your transaction stays usable, the event is counted as dropped, and the result is None.
        The event is not stored in any other way, because it would then survive a rollback. With ``required``,
        a failure raises ``DatabaseError``. In psycopg's pipeline mode, it raises the errors of your own
        earlier statements.
        """
        try:
            built: Event | Exception = self._builder.build(_given(action, event))
        except Exception as error:  # noqa: BLE001 - see below
            built = error
        if inline.is_async(connection):
            return self._store_async(connection, built, required=required)
        inline.settle(connection)
        try:
            event_id, payload = _whole(built)
            answer = inline.store(connection, payload)
        except Exception as error:  # noqa: BLE001 - P4: recording never raises, except with required
            self._not_stored(error, required=required)
            return None
        return None if self._rejected(answer, required=required) else event_id

    async def _store_async(self, connection: Any, built: Event | Exception, *, required: bool) -> str | None:
        await inline.settle_async(connection)
        try:
            event_id, payload = _whole(built)
            answer = await inline.store_async(connection, payload)
        except Exception as error:  # noqa: BLE001 - see record_in
            self._not_stored(error, required=required)
            return None
        return None if self._rejected(answer, required=required) else event_id

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
        # SQLAlchemy's and Django's errors contain the driver's error.
        cause = next((each for each in (error, error.__cause__) if isinstance(each, psycopg.Error)), error)
        reason = describe_database_error(cause) if isinstance(cause, psycopg.Error) else one_line(error, 300)
        if required:
            sqlstate = getattr(cause, "sqlstate", None)
            # Our own errors have a hint.
            own = getattr(error, "hint", None)
            hint = _HINTS.get(type(error)) or _HINTS.get(type(cause)) or own
            raise DatabaseError(
                f"the audit event was not stored: {reason}", hint=hint, sqlstate=sqlstate
            ) from error
        self._running().tally.drop(f"record_in: {type(error).__name__}: {reason}", count)

    def prepare(self, action: str, **event: Any) -> Event:
        """Create an event now that may be recorded later. Never raises.

        ``event`` is what ``record()`` takes. Time, context and values are taken now.
        """
        return self._builder.build(_given(action, event))

    def record_prepared(self, event: Event) -> str | None:
        """Like ``record()``, for an event from ``prepare()``."""
        return self._accept(event)

    def record_prepared_in(self, connection: Any, events: Sequence[Event], *, required: bool = False) -> int:
        """Like ``record_in()``, for events from ``prepare()``, in one statement. Returns how many were
        stored.

        ``connection`` must be a blocking one.
        """
        try:
            answer = inline.store(connection, *(event.payload for event in events))
        except Exception as error:  # noqa: BLE001 - see record_in
            self._not_stored(error, len(events), required=required)
            return 0
        return len(events) - self._rejected(answer, required=required)

    def redacts(self, name: str) -> bool:
        """Whether a value under this name is recorded as ``[redacted]``."""
        return self._redactor.is_secret(name)

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until the events accepted so far are in the database. Returns whether they are. Blocks.

        Tries at once, even if the writer is waiting because the database was unavailable.
        """
        engine = self._engine
        return engine.flush(timeout) if engine is not None else True

    def drain(self, timeout: float = 60.0) -> bool:
        """``flush()``, and send the events that dead processes have left on this machine. Blocks.

        Also returns False if a file is not readable, or if events in this database's spool are for another
        database.
        """
        return bool(self.drain_all(timeout))

    def drain_all(self, timeout: float = 60.0, *, confirmed: bool = False) -> DrainResult:
        """Like ``drain()``, but returns details.

        With ``confirmed``, all events in this spool are sent to this database, whatever the files say.
        """
        return self._running().drain(timeout, is_confirmed=confirmed)

    def retry_refused(self) -> RetryResult:
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
        """``flush()``, stop the writer, and record no more. Unsent events stay in the spool."""
        with self._lock:
            self._closed = True
            engine = self._engine
        lifecycle.release(self)
        self._reader.close()
        return engine.close(timeout) if engine is not None else True

    def stats(self) -> AuditStats:
        """Counters of recorded, sent and waiting events of this process."""
        return self._running().stats()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self, given: EventArguments | Event) -> str | None:
        try:
            engine = self._engine
            if engine is None or engine.pid != os.getpid():
                engine = self._running()
            if self._closed:
                engine.tally.drop("the log is closed")
                return None
            event = self._builder.build(given) if isinstance(given, EventArguments) else given
            if engine.accept(event.payload):
                return event.id
        except Exception as error:  # noqa: BLE001 - P4: recording never raises
            with suppress(Exception):
                self._running().tally.drop(type(error).__name__)
        return None

    def _running(self) -> Engine:
        with self._lock:
            if self._engine is not None and self._engine.pid != os.getpid():
                self.forget()
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

    def hold(self) -> None:
        """Called before a fork: no other thread may be creating files, or be inside SQLite."""
        self._lock.acquire()
        self._held = [self._lock]
        for lock in self._engine.intake.locks() if self._engine is not None else []:
            lock.acquire()
            self._held.append(lock)

    def let_go(self) -> None:
        """Called in the parent after a fork."""
        while self._held:
            self._held.pop().release()

    def forget(self) -> None:
        """Called in a forked child: the files, the writer and the connection belong to the parent."""
        engine, self._engine, self._lock = self._engine, None, threading.RLock()
        # A new lock: another thread of the parent may have held the old one, which then stays locked.
        self._builder = self._new_builder()
        self._held = []
        if engine is not None:
            leave_alone(engine, engine.descriptors())

    def end(self, timeout: float) -> None:
        """Called at the interpreter's exit. Recording still works: events go to the spool, for the next
        process.
        """
        engine = self._engine
        if engine is not None and not self._closed:
            engine.close(timeout, keep_recording=True)


class RejectedError(Exception):
    """The database rejected the event. The message names the event and the reason."""


_HINTS: dict[type[Exception], str] = {
    RejectedError: "Correct the event. If you roll back, it is not in usersync.audit_rejects either.",
    psycopg.errors.UndefinedFunction: "Is usersync installed in this database? Run: usersync apply",
}


def _whole(built: Event | Exception) -> Event:
    if isinstance(built, Exception):
        raise built
    return built


def _given(action: str, event: dict[str, Any]) -> EventArguments:
    own = {name: event.pop(name) for name in tuple(event) if name in _OWN}
    return EventArguments(action, fields=event, **own)


_OWN = {"entity", "before", "after", "changes", "outcome", "occurred_at", "metadata"}
