"""What can be set for an audit log."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from usersync.errors import SettingsError

Durability = Literal["spool", "memory"]

SPOOL_VARIABLE = "USERSYNC_SPOOL_DIR"


@dataclass(frozen=True)
class Options:
    """Sizes in bytes, times in seconds. Raises :class:`SettingsError` for what cannot be."""

    durability: Durability = "spool"
    #: Below it, each database has a directory of its own.
    spool_dir: Path | str | None = None
    #: What that directory is called; default is made from the address. Two addresses of one database (direct,
    #: and through a pooler) share their spool if they share this.
    project: str | None = None
    #: Words in a key that mark secrets, besides those of ``redaction.py``.
    redact: tuple[str, ...] = ()
    #: Exceptions that mean ``denied`` in ``action()``.
    denied: tuple[type[BaseException], ...] = (PermissionError,)
    #: What one process's spool file may grow to. Beyond, events go to memory.
    spool_bytes: int = 1 << 30
    memory_events: int = 10_000
    memory_bytes: int = 64 << 20
    #: A larger event has its values cut.
    event_bytes: int = 256 << 10
    batch_events: int = 500
    batch_bytes: int = 1 << 20
    #: How long a batch may take in the database, and to get there and back.
    send_timeout: float = 20.0
    #: How long the end of the interpreter may be held up. What is in the spool then stays there.
    exit_timeout: float = 2.0

    def __post_init__(self) -> None:
        if self.durability not in get_args(Durability):
            choices = " or ".join(map(repr, get_args(Durability)))
            raise SettingsError(
                f"durability: expected {choices}, not {self.durability!r}",
                hint="For events in your own transaction there is record_in(), whatever the durability.",
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and value < 0:
                raise SettingsError(f"{field.name}: must not be negative, and is {value}")


def default_spool_dir() -> Path:
    """``USERSYNC_SPOOL_DIR``, else the state directory of this account, else one below /tmp."""
    if named := os.environ.get(SPOOL_VARIABLE):
        return Path(named)
    try:
        home = Path.home()
    except RuntimeError:
        home = None
    if home is None or not os.access(home, os.W_OK):
        return Path(tempfile.gettempdir()) / f"usersync-{os.geteuid()}" / "spool"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "usersync" / "spool"
    state = os.environ.get("XDG_STATE_HOME")
    return Path(state or home / ".local" / "state") / "usersync" / "spool"


def directory_name(label: str) -> str:
    """A name for a directory, readable and of this label alone."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", label):
        return label
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", label).strip("-.")[:60]
    return f"{readable}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
