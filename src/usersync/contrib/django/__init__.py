"""Django: the audit context of each request, the audit log, the command, and migrations.

::

    INSTALLED_APPS = [..., "usersync.contrib.django"]
    MIDDLEWARE = ["usersync.contrib.django.AuditContextMiddleware", ...]
    USERSYNC = {"TRUSTED_PROXIES": ["10.0.0.0/8"]}  # all keys: config.py

    from usersync.contrib.django import audit, record_on_commit
"""

from usersync.config.extras import needed

with needed("django", "usersync.contrib.django"):
    from usersync.contrib.django.log import audit, record_on_commit
    from usersync.contrib.django.middleware import AuditContextMiddleware

__all__ = ["AuditContextMiddleware", "audit", "record_on_commit"]
