"""The model that the permission and the admin page belong to."""

from __future__ import annotations

from typing import Any

from django.db import models

__all__ = ["AuditEvent"]


class _Nothing(models.Manager[Any]):
    """Finds nothing, so that ``dumpdata`` and other generic code does not read the log."""

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().none()


class AuditEvent(models.Model):
    """An event in the audit log. It has no table of its own: the page reads with ``AuditLog.search()``."""

    id: Any = models.UUIDField(primary_key=True)
    objects: Any = _Nothing()

    class Meta:
        managed = False
        default_permissions: tuple[str, ...] = ("view",)
        verbose_name = "audit event"

    def __str__(self) -> str:
        return str(self.id)
