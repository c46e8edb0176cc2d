"""Fixtures that run a trial of the auth server's flows in a project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from usersync.config.settings import Settings
from usersync.schema import installation
from usersync.schema.trial.observer import observe
from usersync.transports.run import run

if TYPE_CHECKING:
    from collections.abc import Callable

    from usersync.models import Change
    from usersync.schema.trial.observation import Trial


@pytest.fixture
def run_trial(postgres) -> Callable[..., Trial]:
    """Run SQL as ``postgres``, then try the flows of these names."""

    def run_flows(sql: str, *flows: str, connection: Any = None, **options: Any) -> Trial:
        postgres.execute(sql)
        named = {"flows": flows} if flows else {}
        return observe(connection or postgres, options.pop("settings", Settings()), **named, **options)

    return run_flows


@pytest.fixture
def install(postgres) -> Callable[..., tuple[Change, ...]]:
    """Create tables and functions, and return the remaining changes: the triggers."""

    class StopError(Exception):
        pass

    def up_to_the_triggers(settings: Settings, *, adopt: bool = False) -> tuple[Change, ...]:
        left = []

        def stop(changes):
            left.extend(changes)
            raise StopError

        with pytest.raises(StopError):
            run(installation.apply(settings, adopt=adopt, rehearse=stop), postgres)
        return tuple(left)

    return up_to_the_triggers
