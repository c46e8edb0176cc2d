"""Both clients have the same public methods, with the same docstrings."""

from __future__ import annotations

import inspect
import pickle
import traceback

import pytest

import usersync
import usersync.errors
import usersync.models
from usersync import AsyncUserSync, DataApi, UserSync


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


@pytest.mark.parametrize("kind", [UserSync, AsyncUserSync])
def test_the_repr_names_the_database_and_no_password(kind):
    client = kind("postgresql://app:hunter2@db.example:6543/shop")
    assert repr(client) == f"<{kind.__name__}: db.example:6543/shop>"
    api = DataApi("https://abcdefghijklmnopqrst.supabase.co", "sb_secret_hunter2hunter2hunter2")
    assert repr(kind(api)) == f"<{kind.__name__}: abcdefghijklmnopqrst.supabase.co>"


def test_errors_and_models_can_be_imported_from_the_package():
    public = {*usersync.errors.__all__, *usersync.models.__all__} - {
        # Types of fields.
        "DifferenceClass", "FailureKind", "FailureOutcome", "LeftAlone",
    }  # fmt: skip
    assert public <= set(usersync.__all__)
    for name in usersync.__all__:
        assert getattr(usersync, name) is not None
    defined = {name for name, each in vars(usersync.errors).items() if isinstance(each, type)}
    assert defined & {each.__name__ for each in subclasses(usersync.UsersyncError)} == public & defined - {
        "UsersyncError"
    }


def subclasses(kind):
    return {kind, *(each for child in kind.__subclasses__() for each in subclasses(child))} - {
        usersync.UsersyncError
    }


def test_the_hint_is_a_note_of_the_exception():
    error = usersync.SettingsError("this is wrong", hint="Do that.")
    assert "\nHint: Do that.\n" in "".join(traceback.format_exception(error))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    assert (again.hint, again.__notes__) == ("Do that.", ["Hint: Do that."])
    assert not hasattr(usersync.SettingsError("this is wrong"), "__notes__")
