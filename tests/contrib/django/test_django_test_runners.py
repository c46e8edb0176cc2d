"""Tests of a project that followed the page: ``manage.py test`` and pytest-django, on examples/django."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.newest_server, pytest.mark.timeout(300)]

EXAMPLE = Path(__file__).parents[3] / "examples/django"

PYTEST = """
import pytest
from django.test import TestCase
from shop.models import User
from shop.tests import sign_up


@pytest.mark.django_db
def test_in_a_transaction():
    sign_up("ada@example.com")
    assert User.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("again", [1, 2])
def test_committed(again):
    sign_up("ada@example.com")
    assert User.objects.count() == 1


@pytest.mark.django_db
def test_the_next_one():
    assert User.objects.count() == 0
"""


@pytest.fixture
def run(cluster, tmp_path):
    """Run a command of the example's project; its database has nothing that the tests would need."""
    database = cluster.create()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "SUPABASE_DB_URL": database.dsn(),
        "SUPABASE_URL": "https://project.example.com",
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": str(EXAMPLE),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def call(*arguments):
        done = subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=200,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said

    yield call
    left = "select datname from pg_database where datname like 'test_' || %s || '%%'"
    assert cluster.maintenance.execute(left, [database.name]).fetchall() == []
    cluster.drop(database)


@pytest.mark.slow
def test_manage_py_test(run):
    assert "Ran 6 tests" in run(EXAMPLE / "manage.py", "test", "shop")


@pytest.mark.slow
def test_manage_py_test_in_parallel(run):
    said = run(EXAMPLE / "manage.py", "test", "shop", "--parallel", "2", "--shuffle", "1")
    assert "Ran 6 tests" in said


@pytest.mark.slow
def test_pytest_django(run, tmp_path):
    (tmp_path / "test_pages.py").write_text(PYTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    options = ("-q", "-c", "pytest.ini", "-p", "no:cacheprovider")
    said = run("-m", "pytest", *options, "test_pages.py", EXAMPLE / "shop/tests.py")
    assert "10 passed" in said
