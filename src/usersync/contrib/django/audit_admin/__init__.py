"""The audit log in Django's admin, read-only: an application of its own for ``INSTALLED_APPS``.

::

    INSTALLED_APPS = [..., "usersync.contrib.django", "usersync.contrib.django.audit_admin"]

Users who have the permission ``usersync_audit.view_auditevent``, and superusers, see it in the default admin
site. For another site: ``site.register(AuditEvent, AuditEventAdmin)``.
"""
