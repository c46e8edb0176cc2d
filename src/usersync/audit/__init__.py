"""The audit log: ``record()`` returns at once, the event arrives in the database exactly once.

::

    record() ─▶ event.py ─▶ intake.py ─▶ spool.py (SQLite file) ─▶ writer.py ─▶ sender.py ─▶ database
                values.py       └─ memory.py, when there is no spool ─┘
                redaction.py, diff.py, context.py

``log.py`` is what applications see. ``directory.py`` owns the spool files: a process writes to one of its
own, and whoever lives takes over those of the dead. ``inline.py`` records in the caller's transaction; the
writer then only sees to the log's partitions.
"""

from usersync.audit.log import AuditLog
from usersync.audit.stats import AuditStats

__all__ = ["AuditLog", "AuditStats"]
