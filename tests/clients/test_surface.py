"""Both clients have the same public methods, and say what they do."""

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


def test_every_method_of_the_one_blocks_and_of_the_other_is_awaited():
    for name in surface(UserSync):
        if name == "from_env":
            continue
        assert not inspect.iscoroutinefunction(getattr(UserSync, name)), name
        assert inspect.iscoroutinefunction(getattr(AsyncUserSync, name)), name


@pytest.mark.parametrize("kind", [UserSync, AsyncUserSync])
def test_every_method_says_what_it_does(kind):
    for name in surface(kind):
        assert inspect.getdoc(getattr(kind, name)), name
