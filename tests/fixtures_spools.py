"""The spools of events of this run, in a directory of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from usersync.audit.options import SPOOL_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def spools_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Not in the home directory, where each command would read the spools of all earlier runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SPOOL_VARIABLE, str(tmp_path_factory.mktemp("spools")))
        yield
