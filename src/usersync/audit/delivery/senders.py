"""The sender for each kind of destination."""

from __future__ import annotations

from typing import TYPE_CHECKING

from usersync.audit.delivery.api_sender import ApiSender
from usersync.audit.delivery.sender import Sender
from usersync.audit.delivery.stream_sender import StreamSender
from usersync.transports.data_api import DataApi
from usersync.transports.jetstream.address import StreamAddress

if TYPE_CHECKING:
    from usersync.audit.spool.address import Address

AnySender = Sender | ApiSender | StreamSender


def sender_to(address: Address, timeout: float) -> AnySender:
    """Return a sender for the destination; ``timeout`` is the seconds that a batch may take."""
    if isinstance(address, StreamAddress):
        return StreamSender(address, timeout)
    return ApiSender(address, timeout) if isinstance(address, DataApi) else Sender(address, timeout)
