"""Products."""

from django.db import models


class User(models.Model):
    """A user. usersync creates and updates the row."""

    id = models.UUIDField(primary_key=True)
    email = models.TextField(null=True)  # noqa: DJ001 - null if the user has none
    full_name = models.TextField(null=True)  # noqa: DJ001
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "users"

    def __str__(self) -> str:
        """Return the id: a person has no other name that stays."""
        return str(self.pk)


class Product(models.Model):
    """A product with its stock."""

    id = models.AutoField(primary_key=True)
    name = models.TextField(unique=True)
    stock = models.PositiveIntegerField()

    class Meta:
        db_table = "products"

    def __str__(self) -> str:
        """Return the name."""
        return self.name
