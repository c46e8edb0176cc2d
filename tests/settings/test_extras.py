"""A module that requires a package of an extra raises without it, and names the pip command."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from usersync.config.extras import EXTRAS

ROOT = Path(__file__).parents[2]

#: Modules, and the hints of their errors.
PARTS = {
    "usersync.console": "pip install jinja2 pyjwt starlette uvicorn",
    "usersync.contrib.alembic": "pip install alembic sqlalchemy",
    "usersync.contrib.asyncpg": "pip install asyncpg",
    "usersync.contrib.auth": "pip install 'pyjwt[crypto]'",
    "usersync.contrib.celery": "pip install celery",
    "usersync.contrib.dramatiq": "pip install dramatiq",
    "usersync.contrib.procrastinate": "pip install procrastinate",
    "usersync.contrib.rq": "pip install rq",
    "usersync.contrib.supabase": "pip install httpx",
    "usersync.contrib.django": "pip install django",
    "usersync.contrib.fastapi": "pip install fastapi 'pyjwt[crypto]'",
    "usersync.contrib.starlette": "pip install fastapi 'pyjwt[crypto]'",
    "usersync.contrib.flask": "pip install flask 'pyjwt[crypto]'",
    "usersync.contrib.sqlalchemy": "pip install 'sqlalchemy[asyncio]'",
    "usersync.core.admin_users": "pip install httpx",
    "usersync.events.webhooks.delivery": "pip install aiohttp cryptography standardwebhooks",
    "usersync.transports.jetstream.connection": "pip install cryptography 'nats-py[nkeys]'",
    "usersync.metrics.opentelemetry": "pip install opentelemetry-api",
    "usersync.metrics.prometheus": "pip install prometheus-client",
}

#: The modules of the extras' packages, and of some of their dependencies.
ABSENT = {each.module.partition(".")[0] for lines in EXTRAS.values() for each in lines} | {
    *("asgiref", "cryptography", "starlette", "werkzeug"),
}

#: Imports modules as if no extra was installed, each in a fork of its own if ``alone``. Prints the hints of
#: those that require one.
WITHOUT_EXTRAS = f"""
import importlib, os, sys
absent = {sorted(ABSENT)}

class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from usersync.errors import MissingExtraError
is_alone, *parts = sys.argv[1:]
for part in parts:
    if is_alone == "alone" and os.fork():
        os.wait()
        continue
    try:
        importlib.import_module(part)
    except MissingExtraError as error:
        print(error.hint)
    if is_alone == "alone":
        sys.stdout.flush()
        os._exit(0)
"""


def import_without_extras(*parts, alone=False):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, "alone" if alone else "together", *parts],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_the_error_names_the_missing_packages():
    hints = import_without_extras(*PARTS, alone=True)
    assert dict(zip(PARTS, hints, strict=True)) == PARTS


def test_each_module_is_imported_or_names_its_missing_packages():
    source = ROOT / "src"
    modules = [
        ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")
        for path in source.glob("usersync/**/*.py")
        if path.stem != "__main__" and "migrations" not in path.parts
    ]
    assert set(import_without_extras(*sorted(modules))) == set(PARTS.values())


def test_missing_extra_error_is_an_import_error():
    from usersync.errors import MissingExtraError  # noqa: PLC0415 - next to the assertion

    assert issubclass(MissingExtraError, ImportError)


def test_the_extras_equal_those_of_pyproject_toml_and_of_the_docs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {
        extra: [line.partition(">=")[0].partition(";")[0].strip() for line in lines]
        for extra, lines in project["optional-dependencies"].items()
    }
    assert declared == {extra: [each.package for each in lines] for extra, lines in EXTRAS.items()}
    listed = (ROOT / "docs/python.md").read_text().partition("| extra | for |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in listed.splitlines()[2:]]
    assert sorted(re.findall("`(.+?)`", " ".join(rows))) == sorted(declared)
