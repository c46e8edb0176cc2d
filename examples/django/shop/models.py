"""Products."""

from django.db import models


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
