"""The undocumented parts of psycopg that usersync uses."""

from __future__ import annotations

import inspect

import psycopg
import pytest

from usersync.transports import ownership

PRIVATE = {
    "Cursor._execute_gen": ["self", "query", "params", "prepare", "binary"],
    "Pipeline._sync_gen": ["self"],
    "Connection._connect_gen": ["conninfo"],
}


@pytest.mark.parametrize("name", PRIVATE)
def test_psycopg_has_the_private_generators_that_usersync_uses(name):
    kind, method = name.split(".")
    found = getattr(getattr(psycopg, kind), method, None)
    problem = f"{name} of psycopg {psycopg.__version__} is not what {ownership.__name__} expects"
    assert inspect.isgeneratorfunction(getattr(found, "__func__", found)), problem
    assert [each for each in PRIVATE[name] if each not in inspect.signature(found).parameters] == [], problem
