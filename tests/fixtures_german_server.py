"""A server whose messages are German, for tests that must not depend on the text of messages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fixtures_servers import SETTINGS
from hooks_skips import skip_without
from usersync.embedded import EmbeddedPostgres, installed_versions
from usersync.testing import SupabaseCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

_LANGUAGE = "de_DE.UTF-8"
_CATALOGS = "share/locale/de/LC_MESSAGES"


@pytest.fixture(scope="session")
def german_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SupabaseCluster]:
    """A server on which every session gets its messages in German. Debian's PostgreSQL has these messages."""
    version = _with_catalogs() or skip_without("a PostgreSQL with German messages")
    locales = tmp_path_factory.mktemp("locales")
    _make_locale(locales)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCPATH", str(locales))
        server = EmbeddedPostgres(version=version, settings=SETTINGS).__enter__()
    with server, SupabaseCluster.on(server) as cluster:
        cluster.maintenance.execute(f"alter role all set lc_messages = '{_LANGUAGE}'")
        yield cluster


def _with_catalogs() -> int | None:
    for version, bin_dir in installed_versions().items():
        for share in (bin_dir.parent / "share/locale", Path("/usr/share/locale")):
            if (share / f"de/LC_MESSAGES/postgres-{version}.mo").exists():
                return version
    return None


def _make_locale(directory: Path) -> None:
    maker = shutil.which("localedef")
    if maker is None:
        skip_without("the sources of locales")
    made = subprocess.run(
        [maker, "--no-archive", "-i", "de_DE", "-f", "UTF-8", directory / _LANGUAGE],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        skip_without("the sources of locales", made.stderr.strip()[:200])
