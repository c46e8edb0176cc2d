"""Imports the application's handlers, as ``python -m`` would: from the working directory too."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from usersync.events.handlers import Handlers


def load(reference: str) -> Handlers:
    """Import ``module:name``. Raises ``SettingsError``, and what the module raises."""
    from usersync.events.handlers import load_handlers  # noqa: PLC0415 - only if used

    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    return load_handlers(reference)
