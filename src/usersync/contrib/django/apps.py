"""The application that goes into ``INSTALLED_APPS``."""

from __future__ import annotations

from django.apps import AppConfig


class UsersyncConfig(AppConfig):
    """Has no models and no migrations of its own: your migrations say when usersync comes."""

    name = "usersync.contrib.django"
    label = "usersync"
    verbose_name = "usersync"

    def ready(self) -> None:
        """Register the system checks, and have connections tell who is acting."""
        from usersync.contrib.django import checks, passing  # noqa: F401, PLC0415 - once Django is set up

        passing.install()
