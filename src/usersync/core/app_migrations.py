"""The application's migration files below the current directory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usersync.config.mapping import TableName

#: The usual folders.
DIRECTORIES = ("supabase/migrations", "migrations", "db/migrations", "drizzle", "prisma/migrations")

_MAX_BYTES = 4 << 20


def migrations_that_create(table: TableName) -> tuple[Path, ...]:
    """The migration files that create a table of this name, without those that usersync wrote."""
    name = rf'"?{re.escape(table.name)}"?(?![\w"])'
    schema = rf'"?{re.escape(table.schema)}"?\s*\.\s*'
    schema = f"({schema})?" if table.schema == "public" else schema
    creates = re.compile(rf"\bcreate\s+table\s+(if\s+not\s+exists\s+)?{schema}{name}", re.IGNORECASE)
    return tuple(path for path, text in _texts() if creates.search(re.sub(r"--.*", "", text)))


def _texts() -> Iterator[tuple[Path, str]]:
    for directory in DIRECTORIES:
        for path in sorted(Path(directory).rglob("*.sql")):
            if path.is_file() and path.stat().st_size <= _MAX_BYTES:
                text = path.read_text("utf-8", "replace")
                if not text.startswith("-- usersync "):
                    yield path, text
