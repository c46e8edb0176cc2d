"""Tests are collected an hour before they run, by the clock that Python sees.

On a slow machine a test runs long after its module was imported. What a module computes at import must not
age: a time, a token that expires. With the clock moved, such a test fails everywhere, and not only on slow
machines.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import time_machine

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    with time_machine.travel(datetime.now(UTC) - timedelta(hours=1)):
        return (yield)
