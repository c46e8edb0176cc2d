"""The audit log of a Django project, and events that wait for a commit."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from django.core.signals import setting_changed
from django.db import connections, transaction

from usersync.audit import AuditLog
from usersync.contrib.django.addresses import address_of
from usersync.contrib.django.config import config
from usersync.transports.processes import ForkSafeLock

_logs: dict[object, AuditLog] = {}
_lock = ForkSafeLock()


def audit_log() -> AuditLog:
    """The project's log: one a process and database, made when it is first asked for.

    Raises ``SettingsError``.
    """
    alias = config().database
    # By what the database is called at this moment: a test runner calls it something else.
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
        return AuditLog(None, **{"durability": "memory", **options})
    if service := connections.databases[alias]["OPTIONS"].get("service"):
        # The address says no more than this, and two services must not share a spool.
        options = {"project": f"service {service}", **options}
    return AuditLog(address_of(alias), **options)


class _Current:
    """Whatever is asked of it is asked of the log that ``audit_log()`` returns."""

    def __getattr__(self, name: str) -> Any:
        return getattr(audit_log(), name)


#: The project's audit log.
audit: AuditLog = cast("AuditLog", _Current())


def record_on_commit(action: str, *, using: str | None = None, **event: Any) -> None:
    """Record an event once the transaction that is open on the database ``using`` has committed.

    Nothing is recorded if it is rolled back, or the savepoint is that it is in; without a transaction the
    event is recorded at once. ``event`` is what ``record()`` takes; its time, its
    context and its values are those of the call. Unlike with ``record_in()``, a process that is killed right
    after the commit may leave no event; and the commit never waits for one.
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
