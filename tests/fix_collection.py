"""Tests are collected an hour before they run, by the clock that Python sees.

On a slow machine a test runs long after its module was imported. What a module computes at import must not
age: a time, a token that expires. With the clock moved, such a test fails everywhere, and not only on slow
machines.

The order is random, except that the longest tests come first. ``--numprocesses=auto`` starts more processes
than there are cores, because tests wait: for a lock, a time-out, another process.
"""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import time_machine

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    with time_machine.travel(datetime.now(UTC) - timedelta(hours=1)):
        return (yield)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "starts_first: takes so long that other workers would wait for it")


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """A quarter more than cores, rounded up. The variable of pytest-xdist says otherwise."""
    cores = yield
    return cores if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") else cores + math.ceil(cores / 4)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After pytest-randomly: at the end of a run, no worker is alone with a long test."""
    items.sort(key=lambda item: item.get_closest_marker("starts_first") is None)
