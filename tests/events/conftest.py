"""The fixtures of tests with subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from working import Working

if TYPE_CHECKING:
    from fix_project import Project


@pytest.fixture
def asks_for_log() -> bool:
    return True


@pytest.fixture
def working(project: Project) -> Working:
    return Working(project)
