"""Without a package of an extra, whatever needs it says so, and how to install it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from usersync.config.extras import EXTRAS

ROOT = Path(__file__).parents[2]

#: What is imported, and what its error names.
PARTS = {
    "usersync.contrib.auth": "pip install 'pyjwt[crypto]'",
    "usersync.contrib.fastapi": "pip install fastapi 'pyjwt[crypto]'",
    "usersync.contrib.starlette": "pip install fastapi 'pyjwt[crypto]'",
    "usersync.contrib.flask": "pip install flask 'pyjwt[crypto]'",
    "usersync.contrib.sqlalchemy": "pip install sqlalchemy",
    "usersync.metrics.opentelemetry": "pip install opentelemetry-api",
    "usersync.metrics.prometheus": "pip install prometheus-client",
}

#: Runs as if nothing but the core was installed.
WITHOUT_EXTRAS = """
import importlib, sys
absent = {names}

class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from usersync.errors import MissingExtraError
try:
    importlib.import_module({part!r})
except MissingExtraError as error:
    print(error.hint)
"""


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_package_is_named(part):
    names = {each.module.partition(".")[0] for lines in EXTRAS.values() for each in lines} | {"starlette"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS.format(names=names, part=part)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == (PARTS[part], "")


def test_the_error_is_an_import_error_too():
    from usersync.errors import MissingExtraError  # noqa: PLC0415 - beside what it shows

    assert issubclass(MissingExtraError, ImportError)


def test_extras_are_those_of_the_project_file():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {
        extra: [line.partition(">=")[0].partition(";")[0].strip() for line in lines]
        for extra, lines in project["optional-dependencies"].items()
    }
    assert declared == {extra: [each.package for each in lines] for extra, lines in EXTRAS.items()}
