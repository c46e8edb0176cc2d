"""Which tests run, their order, and the clock at collection: Python's clock is one hour behind.

On a slow machine, a test runs long after its module was imported. A test must not depend on a value that a
module computed at import and that expires, for example a token. With the clock one hour behind, such a test
fails on every machine, and not only on slow ones.

With ``--quick``, as in ``make test``, slow tests are left out, and each test runs with plain names only.
``make test-all`` and CI run everything.

The order is random, except that the longest tests come first. ``--numprocesses=auto`` starts more processes
than there are cores, because tests often wait for a lock, a timeout or another process.
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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="leave out tests marked slow, and all variants of names, key types and isolation levels",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "slow: takes more than a second by its nature: browsers, other tools, killed processes",
    )
    config.addinivalue_line("markers", "starts_first: takes so long that other workers would wait for it")


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """1.25 times the number of cores, rounded up, unless PYTEST_XDIST_AUTO_NUM_WORKERS is set."""
    cores = yield
    return cores if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") else cores + math.ceil(cores / 4)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start the longest tests first, so that none of them runs alone at the end.

    Runs after pytest-randomly.
    """
    if config.getoption("--quick"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    items.sort(key=lambda item: item.get_closest_marker("starts_first") is None)
