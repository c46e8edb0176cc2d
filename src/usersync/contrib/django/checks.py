"""System checks: whether the settings are valid, and the database has this release of usersync."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.db import connections

from usersync.config.extras import missing
from usersync.contrib.django import testing
from usersync.contrib.django.config import config
from usersync.contrib.django.connection_strings import dsn_of
from usersync.contrib.django.operations import carriers
from usersync.errors import MissingExtraError, SettingsError, UsersyncError
from usersync.schema import installation
from usersync.transports.psycopg import connect
from usersync.transports.run import run

if TYPE_CHECKING:
    from collections.abc import Sequence

_ABOUT = "usersync"


@checks.register(_ABOUT)
def check_settings(**_: object) -> list[Any]:
    """``usersync.E001``: the setting ``USERSYNC``, or the file of settings, is wrong or needs a package."""
    try:
        found = config()
        found.schema_settings()
        if found.database is not None:
            dsn_of(found.database)
        if found.tokens is not None and (lacking := missing("auth", 'USERSYNC["TOKENS"]')):
            raise lacking
    except (SettingsError, MissingExtraError) as error:
        return [checks.Error(str(error), hint=error.hint, obj=_ABOUT, id="usersync.E001")]
    return []


@checks.register(_ABOUT)
def check_actor(**_: object) -> list[Any]:
    """``usersync.W003``: for a user of Supabase, the actor of events would be a primary key of Django.

    Django REST framework calls the application's authentication class in the view, and its user may be any
    object.
    """
    if check_settings() or not apps.is_installed("rest_framework"):
        return []
    found = config()
    classes = getattr(settings, "REST_FRAMEWORK", {}).get("DEFAULT_AUTHENTICATION_CLASSES", ())
    own = [name for name in map(_path, classes) if not name.startswith("rest_framework.")]
    if not own or found.actor is not None or found.tokens is not None:
        return []
    return [
        _warning(
            "usersync.W003",
            f"{', '.join(own)} authenticates requests, so the actor of an event is the primary key of "
            "Django's user, and no event is linked to a user of Supabase",
            'If tokens are Supabase\'s, set USERSYNC["TOKENS"] = {}. Otherwise set USERSYNC["ACTOR"] to a '
            "function that returns the actor of a request.",
        )
    ]


def _path(name: object) -> str:
    if isinstance(name, str):
        return name
    return f"{getattr(name, '__module__', '')}.{getattr(name, '__name__', name)}"


@checks.register(_ABOUT, checks.Tags.database)
def check_database(databases: Sequence[str] | None = None, **_: object) -> list[Any]:
    """``usersync.W001``: the database is outdated; ``usersync.W002``: that cannot be checked or fixed.

    Runs with the database checks: ``migrate``, and ``check --database default``.
    """
    if check_settings():
        return []
    found = config()
    alias = found.database
    if alias is None or alias not in (databases or ()) or testing.is_running():
        return []
    try:
        with connect(dsn_of(alias)) as own:
            planned = run(installation.plan(found.schema_settings()), own)
        if planned.errors:
            first = planned.errors[0]
            return [_warning("usersync.W002", f"{alias}: {first.message}", first.hint)]
        if planned.changes and not carriers(connections[alias], applied=False):
            return [
                _warning("usersync.W001", _behind(alias, [each.subject for each in planned.changes]), _MEND)
            ]
    except UsersyncError as error:
        return [_warning("usersync.W002", str(error), error.hint)]
    return []


_MEND = "Run: manage.py usersync apply. Or add a migration with ApplyUsersync() and run migrate."
_NAMED = 3


def _behind(alias: str, subjects: Sequence[str]) -> str:
    named = ", ".join(subjects[:_NAMED]) + (", …" if len(subjects) > _NAMED else "")
    return f"the database {alias!r} is not up to date with this release of usersync: {named}"


def _warning(number: str, message: str, hint: str | None) -> Any:
    return checks.Warning(message, hint=hint, obj=_ABOUT, id=number)
