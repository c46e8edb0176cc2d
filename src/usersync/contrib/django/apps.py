"""The application that goes into ``INSTALLED_APPS``."""

from __future__ import annotations

from django.apps import AppConfig


class UsersyncConfig(AppConfig):
    """Has no models and no migrations: a migration of your own installs usersync."""

    name = "usersync.contrib.django"
    label = "usersync"
    verbose_name = "usersync"

    def ready(self) -> None:
        """Register the system checks, and pass the actor to the database on its connections."""
        from usersync.contrib.django import checks, passing, testing  # noqa: F401, PLC0415 - Django has to be set up

        passing.install()
        testing.install()
