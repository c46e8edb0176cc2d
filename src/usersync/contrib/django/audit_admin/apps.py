"""The application that goes into ``INSTALLED_APPS``."""

from __future__ import annotations

from usersync.config.extras import needed

with needed("django", "usersync.contrib.django.audit_admin"):
    from django.apps import AppConfig


class AuditAdminConfig(AppConfig):
    """Has a model without a table, so that there is a permission. It has no migrations."""

    name = "usersync.contrib.django.audit_admin"
    label = "usersync_audit"
    verbose_name = "usersync"
