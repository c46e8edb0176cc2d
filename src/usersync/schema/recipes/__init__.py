"""What a hand-written trigger function does, read from its text, as far as it only copies a row."""

from usersync.schema.recipes.conditions import ALWAYS, OPERATIONS, Condition, read_when
from usersync.schema.recipes.reading import Recipe, Write, read_recipe
from usersync.schema.recipes.values import Value

__all__ = [
    "ALWAYS",
    "OPERATIONS",
    "Condition",
    "Recipe",
    "Value",
    "Write",
    "read_recipe",
    "read_when",
]
