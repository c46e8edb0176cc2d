"""The subject of an event: ``usersync.<tenant>.<action>``."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from usersync.audit.models import EventRecord

#: The token for an empty tenant or action. A subject has no empty tokens.
NONE = "_"

#: Characters with a meaning in a subject, and the percent sign, which encodes them.
_SPECIAL = frozenset(".*>%")
_LAST_OF_FIRST_PLANE = "\uffff"


def subject_of(event: EventRecord, prefix: str) -> str:
    """The subject of an event. The parts of its action stay separate tokens: ``usersync.acme.order.paid``."""
    tenant = str(event.tenant_id) if event.tenant_id else ""
    # A tenant named "_" must differ from an event without a tenant.
    first = "%5F" if tenant == NONE else _token(tenant)
    return ".".join([prefix, first, *map(_token, (event.action or "").split("."))])


def _token(text: str) -> str:
    """A text as one token: special characters, spaces and control characters percent-encoded."""
    return "".join(map(_encoded, text)) or NONE


def _encoded(character: str) -> str:
    # Later planes have no spaces and no control characters. Encoded, they make the subject of a long action
    # and a long tenant larger than 4096 bytes, and then the server closes the connection.
    is_plain = character.isprintable() or character > _LAST_OF_FIRST_PLANE
    if is_plain and character != " " and character not in _SPECIAL:
        return character
    return "%2E" if character == "." else quote(character, safe="", errors="replace")
