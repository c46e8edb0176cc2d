"""What a pasted trigger function does, read from its text, as far as it only copies a row."""

from usersync.plans.recipes.reading import Recipe, Write, read_recipe
from usersync.plans.recipes.values import Value

__all__ = ["Recipe", "Value", "Write", "read_recipe"]
