"""The types of the public names, checked by `pyright --verifytypes`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hooks_skips import skip_without

#: The modules whose names are public by docs/reference.md.
MODULES = (
    *(
        "usersync",
        "usersync.manage",
        "usersync.models",
        "usersync.errors",
        "usersync.testing",
        "usersync.embedded",
    ),
    *("usersync.metrics", "usersync.metrics.prometheus", "usersync.metrics.opentelemetry"),
    *("usersync.contrib.auth", "usersync.contrib.asgi", "usersync.contrib.wsgi", "usersync.contrib.django"),
    *("usersync.contrib.fastapi", "usersync.contrib.starlette", "usersync.contrib.flask"),
    *("usersync.contrib.sqlalchemy", "usersync.contrib.alembic"),
)

#: The classes that these modules export but do not define.
CLASSES = ("UserSync", "AsyncUserSync", "AuditLog", "DataApi", "AuditStats", "EventRecord", "EventPage")


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_at_least_99_percent_of_the_public_names_have_a_known_type():
    programs = Path(sys.executable).parent
    if not (programs / "basedpyright").exists():
        skip_without("basedpyright")
    done = subprocess.run(
        [programs / "basedpyright", "--verifytypes", "usersync", "--ignoreexternal", "--outputjson"],
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "VIRTUAL_ENV": str(programs.parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    symbols = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    public = [each for each in symbols if each["isExported"] and is_public(each["name"])]
    unknown = [each["name"] for each in public if each["isTypeAmbiguous"] or not each["isTypeKnown"]]
    assert len(public) > 500
    assert len(unknown) <= len(public) / 100, unknown


def is_public(name):
    parts = name.split(".")
    modules = [".".join(parts[:end]) for end in range(1, len(parts))]
    return name.startswith(tuple(f"{each}." for each in MODULES[1:])) or (
        modules == ["usersync"] or any(part in CLASSES for part in parts)
    )
