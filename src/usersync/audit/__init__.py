"""The audit log: ``record()`` returns at once; the event is stored in the database exactly once.

::

    record() ─▶ event/ ─▶ spool/intake.py ─▶ spool/file.py ─▶ delivery/writer.py ─▶ sender.py ─▶ database
                                └─ spool/memory.py, if there is no spool ─┘

``log.py`` has the public class. ``spool/directory.py`` owns the spool files: a process writes to one of
its own, and living processes take over the files of dead ones. ``delivery/inline.py`` records in the caller's
transaction; the writer then only creates the log's partitions. ``tracking/`` records every change of a table
by triggers. ``reader.py`` has the methods that read. ``reading.py``, ``upkeep.py`` and ``erasure.py`` are the
operations on the stored log.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usersync.audit.delivery.stats import AuditStats
    from usersync.audit.log import AuditLog
    from usersync.audit.models import EventPage, EventRecord, FeedPage, FieldChange, NumberedEvent
    from usersync.audit.reader import SearchFilters

__all__ = [
    "AuditLog",
    "AuditStats",
    "EventPage",
    "EventRecord",
    "FeedPage",
    "FieldChange",
    "NumberedEvent",
    "SearchFilters",
]


# Imported when asked for: an operation on the stored log needs no spool and no sender.
_MODULES = {
    "AuditLog": "usersync.audit.log",
    "AuditStats": "usersync.audit.delivery.stats",
    "EventPage": "usersync.audit.models",
    "EventRecord": "usersync.audit.models",
    "FeedPage": "usersync.audit.models",
    "FieldChange": "usersync.audit.models",
    "NumberedEvent": "usersync.audit.models",
    "SearchFilters": "usersync.audit.reader",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
