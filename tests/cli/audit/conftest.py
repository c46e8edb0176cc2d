"""A project with an audit log, and a function that calls ``usersync audit`` for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from usersync import AuditLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from command_result import CommandResult
    from fixtures_project import Project


@dataclass(frozen=True)
class Audited:
    """A project, its log, and ``usersync audit`` for it."""

    project: Project
    log: AuditLog
    spool_dir: Path
    call: Callable[..., CommandResult]

    def __call__(self, *arguments: object) -> CommandResult:
        """Call ``usersync audit`` with these arguments on the project's database."""
        return self.call("audit", *arguments, "--dsn", self.project.database.dsn())

    def record(self, action: str, **event: Any) -> str:
        """Record an event and wait until it is stored."""
        event_id = self.log.record(action, **event)
        assert event_id is not None
        assert self.log.flush()
        return event_id


@pytest.fixture
def spool_dir(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def audited(project: Project, usersync: Callable[..., CommandResult], spool_dir: Path) -> Iterator[Audited]:
    logging.getLogger("usersync.audit").setLevel(logging.ERROR)
    with AuditLog(project.database.dsn(), spool_dir=spool_dir, project="test") as log:
        yield Audited(project, log, spool_dir, usersync)


@pytest.fixture
def audit_enabled() -> bool:
    return True
