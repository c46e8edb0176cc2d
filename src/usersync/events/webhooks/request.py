"""Builds the request for an event, signed by Standard Webhooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from usersync.config.extras import needed
from usersync.events.formats import FORMATS
from usersync.version import __version__

with needed("webhooks", "a webhook"):
    from standardwebhooks import Webhook

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from usersync.audit.models import EventRecord
    from usersync.events.secret_box import Secret


_USER_AGENT = f"usersync/{__version__}"


@dataclass(frozen=True)
class SignedRequest:
    """A request. The body is what was signed, byte for byte. The ``repr`` has no data of the event."""

    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def signed_request(
    event: EventRecord, format_name: str, secrets: Sequence[Secret], at: datetime | None = None
) -> SignedRequest:
    """The request for an event. While a secret is rotated, it has a signature for each valid secret.

    ``at`` is the time of the attempt, by default now.
    """
    body, content_type = FORMATS[format_name](event)
    # The library takes the clock time of any zone as UTC.
    at = (at or datetime.now(UTC)).astimezone(UTC)
    message_id = str(event.id)
    signatures = [Webhook(each.text).sign(message_id, at, body) for each in secrets]
    return SignedRequest(
        {
            "content-type": content_type,
            "user-agent": _USER_AGENT,
            # Without compression, an answer cannot be a decompression bomb.
            "accept-encoding": "identity",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signatures),
        },
        body.encode(),
    )
