"""The application that goes into ``INSTALLED_APPS``."""

from __future__ import annotations

from django.apps import AppConfig


class UsersyncConfig(AppConfig):
    """Has no models and no migrations of its own: your migrations say when usersync comes."""

    name = "usersync.contrib.django"
    label = "usersync"
    verbose_name = "usersync"

    def ready(self) -> None:
        """Register the system checks."""
        from usersync.contrib.django import checks  # noqa: F401, PLC0415 - importing it registers them
