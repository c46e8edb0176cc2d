"""The audit log of a Django project, and events that are recorded on commit."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Unpack, cast

from django.core.signals import setting_changed
from django.db import connections, transaction

from usersync.audit import AuditLog
from usersync.contrib.django import testing
from usersync.contrib.django.config import config
from usersync.contrib.django.connection_strings import dsn_of
from usersync.transports.processes import ForkSafeLock

if TYPE_CHECKING:
    from usersync.audit.event.fields import EventFields

_logs: dict[object, AuditLog] = {}
_lock = ForkSafeLock()


def audit_log() -> AuditLog:
    """The project's log: one for each process and database, created on first use.

    Raises ``SettingsError``.
    """
    # In tests, events stay in memory, and only record_in() stores them: another session would not see the
    # test's transaction, and would prevent the runner from dropping the database.
    alias = None if testing.is_running() else config().database
    key = _name_of(alias) if alias is not None else None
    log = _logs.get(key)
    if log is None:
        with _lock:
            log = _logs.get(key) or _logs.setdefault(key, _make(alias))
    return log


def _name_of(alias: str) -> object:
    known = connections.databases[alias]
    return alias, *map(known.get, ("NAME", "HOST", "PORT", "USER")), known["OPTIONS"].get("service")


def _make(alias: str | None) -> AuditLog:
    options = config().audit
    if alias is None:
        return AuditLog.recording_only(**{"durability": "memory", **options})
    if service := connections.databases[alias]["OPTIONS"].get("service"):
        # The connection string has only this, and two services must not share a spool.
        options = {"project": f"service {service}", **options}
    return AuditLog(dsn_of(alias), **options)


class _Current:
    """Forwards every attribute to the log that ``audit_log()`` returns."""

    def __getattr__(self, name: str) -> Any:
        return getattr(audit_log(), name)


#: The project's audit log.
audit: AuditLog = cast("AuditLog", _Current())


def record_on_commit(action: str, *, using: str | None = None, **event: Unpack[EventFields]) -> None:
    """Record an event once the open transaction on the database ``using`` has committed.

    Nothing is recorded if the transaction or its savepoint is rolled back. Without a transaction the event is
    recorded at once. ``event`` are the arguments of ``record()``. The event has the time, context and values
    of the call. The commit never waits for it. Unlike with ``record_in()``, the event is lost if the process
    is killed right after the commit.
    """
    made = audit.prepare(action, **event)
    transaction.on_commit(partial(audit.record_prepared, made), using=using)


def _forget(*, setting: str, **_: object) -> None:
    if setting in {"USERSYNC", "DATABASES"}:
        with _lock:
            logs = list(_logs.values())
            _logs.clear()
        for log in logs:
            log.close(timeout=1.0)


# Tests change settings.
setting_changed.connect(_forget)
