"""The audit log: ``record()`` returns at once; the event is stored in the database exactly once.

::

    record() ─▶ event/ ─▶ spool/intake.py ─▶ spool/file.py ─▶ delivery/writer.py ─▶ sender.py ─▶ database
                                └─ spool/memory.py, if there is no spool ─┘

``log.py`` has the public class. ``spool/directory.py`` owns the spool files: a process writes to one of
its own, and living processes take over the files of dead ones. ``delivery/inline.py`` records in the caller's
transaction; the writer then only creates the log's partitions. ``tracking/`` records every change of a table
by triggers. ``reading.py``, ``upkeep.py`` and ``erasure.py`` are the operations on the stored log.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usersync.audit.delivery.stats import AuditStats
    from usersync.audit.log import AuditLog

__all__ = ["AuditLog", "AuditStats"]


def __getattr__(name: str) -> object:
    # Imported on first use: an operation on the stored log needs no spool and no sender.
    if name == "AuditLog":
        from usersync.audit.log import AuditLog  # noqa: PLC0415

        return AuditLog
    if name == "AuditStats":
        from usersync.audit.delivery.stats import AuditStats  # noqa: PLC0415

        return AuditStats
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
