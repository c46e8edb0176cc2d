"""Which tests run, their order, and the clock at collection: Python's clock is one hour behind.

On a slow machine, a test runs long after its module was imported. A test must not depend on a value that a
module computed at import and that expires, for example a token. With the clock one hour behind, such a test
fails on every machine, and not only on slow ones.

With ``--quick``, as in ``make test``, slow tests are left out, and a test on PostgreSQL runs with plain names
and one of its cases, always the same one. ``make test-all`` and CI run everything.

The order is random, except that the longest tests come first. ``--numprocesses=auto`` starts more processes
than there are cores, because tests often wait for a lock, a timeout or another process.
"""

from __future__ import annotations

import math
import os
import zlib
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
        help="leave out tests marked slow, the variants of names, key types and isolation levels, and all "
        "but one case of each test on PostgreSQL",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "slow: takes more than 0.8 seconds in make test: a trial, a browser, a killed process",
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
        quick = _quick(items)
        config.hook.pytest_deselected(items=[item for item in items if item not in quick])
        items[:] = [item for item in items if item in quick]
    items.sort(key=lambda item: item.get_closest_marker("starts_first") is None)


def _quick(items: list[pytest.Item]) -> set[pytest.Item]:
    chosen: dict[str, pytest.Item] = {}
    for item in items:
        if not item.get_closest_marker("slow"):
            on_server = "server" in getattr(item, "fixturenames", ())
            name = item.nodeid.partition("[")[0] if on_server else item.nodeid
            chosen[name] = min(
                item, chosen.get(name, item), key=lambda each: zlib.crc32(each.nodeid.encode())
            )
    return set(chosen.values())
