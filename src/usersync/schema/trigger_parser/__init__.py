"""What a hand-written trigger function does, read from its text, as far as it only copies a row."""

from usersync.schema.trigger_parser.conditions import ALWAYS, OPERATIONS, Condition, read_when
from usersync.schema.trigger_parser.statements import ParsedFunction, Write, parse_function
from usersync.schema.trigger_parser.values import Value

__all__ = [
    "ALWAYS",
    "OPERATIONS",
    "Condition",
    "ParsedFunction",
    "Value",
    "Write",
    "parse_function",
    "read_when",
]
