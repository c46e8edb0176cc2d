"""Both clients have the same public methods, with the same docstrings."""

from __future__ import annotations

import inspect

import pytest

from usersync import AsyncUserSync, UserSync


def surface(kind) -> dict[str, inspect.Signature]:
    methods = inspect.getmembers(kind, callable)
    return {name: inspect.signature(method) for name, method in methods if not name.startswith("_")}


def test_both_clients_have_the_same_methods_with_the_same_signatures():
    assert surface(AsyncUserSync) == surface(UserSync)
    assert {"sync_auth_user", "sync_all_missing_users", "user_exists", "ensure_user_exists"} <= set(
        surface(UserSync)
    )


def test_methods_of_usersync_block_and_methods_of_asyncusersync_are_coroutines():
    for name in surface(UserSync):
        if name == "from_env":
            continue
        assert not inspect.iscoroutinefunction(getattr(UserSync, name)), name
        assert inspect.iscoroutinefunction(getattr(AsyncUserSync, name)), name


@pytest.mark.parametrize("name", surface(UserSync))
def test_a_method_has_the_same_docstring_in_both_clients(name):
    assert inspect.getdoc(getattr(UserSync, name))
    assert inspect.getdoc(getattr(UserSync, name)) == inspect.getdoc(getattr(AsyncUserSync, name))
