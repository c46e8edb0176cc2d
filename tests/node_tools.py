"""Programs from the npm registry, which ``make test`` installs beside the virtual environment."""

from __future__ import annotations

import sys
from pathlib import Path


def node_tool(path: str) -> str | None:
    """The path of a program below ``node_modules``, or None if it is not installed."""
    program = Path(sys.prefix, "node", "node_modules", path)
    return str(program) if program.is_file() else None
