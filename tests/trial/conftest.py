"""A project whose sign-ups are tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from usersync.schema.trial.observing import observe
from usersync.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from usersync.schema.trial.observation import Trial


@pytest.fixture
def tried(postgres) -> Callable[..., Trial]:
    """Run SQL as ``postgres``, then try the flows of these names."""

    def try_them(sql: str, *flows: str, connection: Any = None, **options: Any) -> Trial:
        postgres.execute(sql)
        named = {"flows": flows} if flows else {}
        return observe(connection or postgres, options.pop("settings", Settings()), **named, **options)

    return try_them
