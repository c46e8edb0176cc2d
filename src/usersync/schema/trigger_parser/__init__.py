"""Parser for hand-written trigger functions: what they write, and in words what else they do."""

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
