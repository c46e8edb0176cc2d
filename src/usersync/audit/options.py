"""The options of an audit log."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict, get_args

from usersync.audit.spool.window import Keep
from usersync.errors import SettingsError

Durability = Literal["spool", "memory"]

SPOOL_VARIABLE = "USERSYNC_SPOOL_DIR"
KEEP_VARIABLE = "USERSYNC_KEEP_DELIVERED"

_KEEP_S = 900.0


class AuditOptions(TypedDict, total=False):
    """The options of ``AuditLog``, for type checkers; docs/audit.md has a table of them."""

    durability: Durability
    spool_dir: Path | str | None
    project: str | None
    redact: Collection[str]
    reveal: Collection[str]
    denied: Collection[type[BaseException]]
    strict: bool
    spool_bytes: int
    memory_events: int
    memory_bytes: int
    event_bytes: int
    batch_events: int
    batch_bytes: int
    send_timeout: float
    keep_delivered: float | None
    keep_bytes: int
    exit_timeout: float


@dataclass(frozen=True)
class Options:
    """Sizes are in bytes, times in seconds. Invalid values raise ``SettingsError``.

    These are the options of ``AuditLog``; docs/audit.md has a table of them.
    """

    durability: Durability = "spool"
    #: Each database has its own directory below this one.
    spool_dir: Path | str | None = None
    #: The name of that directory. The default is derived from the connection string. Two connection strings
    #: of one database (direct, and through a pooler) share a spool if they share this name.
    project: str | None = None
    #: Words that mark a key as secret, in addition to those of ``redaction.py``.
    redact: Collection[str] = ()
    #: Keys whose values are recorded, although they look like secrets. Each is a complete key.
    reveal: Collection[str] = ()
    #: Exceptions that mean ``denied`` in ``action()``, in addition to PermissionError.
    denied: Collection[type[BaseException]] = ()
    #: Whether a wrong argument raises. If not, the event is counted as dropped.
    strict: bool = True
    #: The maximum size of one process's spool file. When it is full, events go to memory.
    spool_bytes: int = 1 << 30
    memory_events: int = 10_000
    memory_bytes: int = 64 << 20
    #: The values of a larger event are cut.
    event_bytes: int = 256 << 10
    batch_events: int = 500
    batch_bytes: int = 1 << 20
    #: The time-out for sending a batch and storing it in the database.
    send_timeout: float = 20.0
    #: How long delivered events are kept, to be sent again to a database that lost them in a failover or a
    #: restore; 0 keeps none. Default is USERSYNC_KEEP_DELIVERED, else 15 minutes.
    keep_delivered: float | None = None
    #: The maximum size of the kept events, and never more than a quarter of ``spool_bytes``.
    keep_bytes: int = 64 << 20
    #: The maximum delay of the interpreter's exit. Unsent events then stay in the spool.
    exit_timeout: float = 2.0

    def __post_init__(self) -> None:
        _expect(
            "durability",
            self.durability,
            " or ".join(map(repr, get_args(Durability))),
            self.durability in get_args(Durability),
            hint="To record in your own transaction, call record_in(), with any durability.",
        )
        _expect("strict", self.strict, "True or False", isinstance(self.strict, bool))
        _expect("spool_dir", self.spool_dir, "a path", _is_path(self.spool_dir))
        _expect("project", self.project, "a text", isinstance(self.project, str | None))
        _expect("redact", self.redact, 'words, such as ("tax_no",)', _is_all(self.redact, _is_word))
        _expect("reveal", self.reveal, 'keys, such as ("seat_token",)', _is_all(self.reveal, _is_word))
        _expect(
            "denied",
            self.denied,
            "exception classes, such as (NotAllowed,)",
            _is_all(self.denied, lambda each: isinstance(each, type) and issubclass(each, BaseException)),
        )
        if self.keep_delivered is None:
            object.__setattr__(self, "keep_delivered", _keep_from_env())
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            kinds = (int, float) if isinstance(least, float) else (int,)
            number = "seconds" if isinstance(least, float) else "a whole number"
            is_number = isinstance(value, kinds) and not isinstance(value, bool)
            _expect(name, value, f"{number} from {least} to {most}", is_number and least <= value <= most)

    @property
    def keep(self) -> Keep:
        """How many delivered events are kept, and for how long."""
        return Keep(round((self.keep_delivered or 0) * 1000), self.keep_bytes)


# Minimum and maximum. The maximum is the largest sensible value that drivers and system accept.
_RANGES: dict[str, tuple[float, float]] = {
    "spool_bytes": (0, 1 << 40),
    "memory_events": (0, 1_000_000_000),
    "memory_bytes": (0, 1 << 40),
    "event_bytes": (1 << 10, 64 << 20),
    "batch_events": (1, 100_000),
    "batch_bytes": (1, 64 << 20),
    "send_timeout": (0.1, 3600.0),
    "exit_timeout": (0.0, 3600.0),
    "keep_delivered": (0.0, 604_800.0),
    "keep_bytes": (0, 1 << 40),
}


def _expect(name: str, value: object, expected: str, is_so: bool, hint: str | None = None) -> None:
    if not is_so:
        raise SettingsError(f"{name}: expected {expected}, not {_shown(value)}", hint=hint)


def _keep_from_env() -> float:
    text = os.environ.get(KEEP_VARIABLE, "").strip()
    if not text:
        return _KEEP_S
    try:
        return float(text)
    except ValueError:
        raise SettingsError(
            f"{KEEP_VARIABLE}: expected a number of seconds, not {_shown(text)}", hint="15 minutes are 900."
        ) from None


def _shown(value: object) -> str:
    return repr(value)[:80]


def _is_path(value: object) -> bool:
    return value is None or (isinstance(value, str | Path) and "\0" not in str(value))


def _is_word(value: object) -> bool:
    return isinstance(value, str) and any(character.isalnum() for character in value)


def _is_all(values: object, condition: Callable[[object], bool]) -> bool:
    # A string is a collection as well: of characters.
    return (
        isinstance(values, Collection) and not isinstance(values, str | bytes) and all(map(condition, values))
    )


def default_spool_dir() -> Path:
    """``USERSYNC_SPOOL_DIR``, else this account's state directory, else a directory below /tmp."""
    if named := os.environ.get(SPOOL_VARIABLE):
        return Path(named)
    try:
        home = Path.home()
    except RuntimeError:
        home = None
    if home is None or not os.access(home, os.W_OK):
        account = os.geteuid() if hasattr(os, "geteuid") else ""  # Windows
        return Path(tempfile.gettempdir()) / f"usersync-{account}" / "spool"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "usersync" / "spool"
    state = os.environ.get("XDG_STATE_HOME")
    return Path(state or home / ".local" / "state") / "usersync" / "spool"


def directory_name(label: str) -> str:
    """A readable directory name that only this label has."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", label):
        return label
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", label).strip("-.")[:60]
    return f"{readable}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
