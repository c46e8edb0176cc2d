"""Whether statement_timeout is longer than usersync waits for a lock."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from usersync.doctor.context import Context, Definition, Verdict
from usersync.models import Finding
from usersync.schema.trial.role_settings import settings_in_force

if TYPE_CHECKING:
    from usersync.transports.steps import Row, Steps

#: What a sign-up may need besides the wait for one lock.
_ROOM_MS = 1_000

_UNITS = {"": 1, "us": 0.001, "ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def look(context: Context) -> Steps[Verdict]:
    rows = yield from settings_in_force(context.settings, "statement_timeout")
    needed = context.settings.lock_timeout_ms + _ROOM_MS
    short = [row for row in rows if 0 < milliseconds(row["value"]) < needed]
    listed = ", ".join(
        f"{row['role']} {row['value'] if milliseconds(row['value']) else 'unlimited'}" for row in rows
    )
    return Verdict(f"statements of {listed}", tuple(_finding(row, needed) for row in short))


def milliseconds(text: str) -> float:
    """A time-out as PostgreSQL writes it; 0 if it cannot be parsed."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text)
    return float(found[1]) * _UNITS.get(found[2], 0) if found else 0


def _finding(row: Row, needed: int) -> Finding:
    if not row["is_auth_server"]:
        return Finding(
            "D022",
            f"role {row['role']}",
            f"statements of {row['role']} are cancelled after {row['value']} ({row['origin']}), and "
            "a page of usersync sync may take longer",
            row["fix"],
            "warning",
        )
    return Finding(
        "D022",
        f"role {row['role']}",
        f"statements of {row['role']} are cancelled after {row['value']} ({row['origin']}). A cancelled "
        "sign-up fails, and usersync cannot catch that: waiting for a lock (lock_timeout_ms) and the sync "
        f"take up to {needed} ms",
        row["fix"],
    )


CHECK = Definition("D022", "Time-outs", look, "source")
