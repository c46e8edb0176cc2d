"""The streams that usersync creates and uses, and the settings of a stream with which it loses events."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usersync.transports.jetstream.connection import NoStreamError, StreamError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from usersync.transports.jetstream.connection import Connection

#: The id of the installation, in the metadata of a stream.
INSTALLATION = "usersync-installation"
#: The position of the database in which workers store the events, also in the metadata.
POSITION = "usersync-position"
#: The address of this database, without a login, also in the metadata.
ADDRESS = "usersync-address"
#: The name of the consumer that all workers share.
INGEST_CONSUMER = "usersync"

REPLICAS = 3
#: The duplicate window in seconds: the server's default.
SHORTEST_WINDOW_S = 120
#: The largest envelope: 1 MiB.
ENVELOPE_BYTES = 1 << 20

_NANOSECONDS = 1_000_000_000
_NOT_CLUSTERED = "10074"


@dataclass(frozen=True)
class Purpose:
    """What a stream is for."""

    #: What the messages of the stream are, for its description.
    what: str
    retention: str
    #: Whether ``usersync worker`` consumes the messages.
    is_ingested: bool


#: From applications to the database. JetStream deletes a message when a worker has acknowledged it.
INGEST = Purpose("events for the database", "workqueue", is_ingested=True)
#: From the database to other systems. The owner of the stream decides how long it keeps messages.
EVENTS = Purpose("events of subscriptions", "limits", is_ingested=False)


@dataclass(frozen=True)
class Stream:
    """A stream as JetStream describes it."""

    name: str
    #: When the stream was created. The time differs if the stream was deleted and created again.
    created: str
    config: Mapping[str, Any]
    messages: int = 0
    #: The time of the answer, by the clock of the server. Empty before NATS 2.10.
    at: str = ""

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata of the stream."""
        return self.config.get("metadata") or {}

    @property
    def installation(self) -> str | None:
        """The id of the usersync installation that the stream belongs to."""
        return self.metadata.get(INSTALLATION)

    @property
    def generation(self) -> str:
        """Eight hexadecimal digits. They change if the stream is created again or the database fails over."""
        known = f"{self.created} {self.metadata.get(POSITION, '')}"
        return hashlib.sha256(known.encode()).hexdigest()[:8].upper()


async def find(connection: Connection, subject: str) -> Stream:
    """The stream with a subject. Raises ``NoStreamError`` if there is none, and ``StreamError``."""
    names = (await connection.request("STREAM.NAMES", {"subject": subject})).get("streams") or []
    if not names:
        raise NoStreamError(f"no stream has the subject {subject}")
    if len(names) > 1:
        raise StreamError(f"several streams have the subject {subject}: {', '.join(sorted(names))}")
    return _stream_of(await connection.request(f"STREAM.INFO.{names[0]}"))


async def find_or_create(
    connection: Connection, name: str, purpose: Purpose, metadata: Mapping[str, str]
) -> Stream:
    """The stream with the subjects ``name.>``. It must belong to the installation in ``metadata``.

    Creates it if there is none: with three replicas, in files. On a single server it has one replica. Raises
    ``StreamError``, also if the stream belongs to another installation.
    """
    installation = metadata[INSTALLATION]
    try:
        found = await find(connection, f"{name}.>")
    except NoStreamError:
        found = await _create(connection, name, purpose, metadata)
    if found.installation is None:
        found = await _with_metadata(connection, found, metadata)
    check_installation(found, installation)
    return found


def check_installation(stream: Stream, installation: str) -> None:
    """Raise ``StreamError`` if the stream belongs to another installation."""
    if stream.installation != installation:
        raise StreamError(
            f"the stream {stream.name} belongs to another installation of usersync ({stream.installation}). "
            f"This database has installation {installation}. Add ?stream=NAME to the URL for another stream"
        )


async def write_home(connection: Connection, stream: Stream, position: str, address: str | None) -> Stream:
    """Write the position and the address of the database into the metadata.

    Applications notice a failover by the position. Without an ``address``, the address is removed. Raises
    ``StreamError``.
    """
    if (stream.metadata.get(POSITION), stream.metadata.get(ADDRESS)) == (position, address):
        return stream
    return await _with_metadata(
        connection, await renew(connection, stream), {POSITION: position, ADDRESS: address}
    )


async def renew(connection: Connection, stream: Stream) -> Stream:
    """The stream as it is now. Raises ``StreamError``."""
    return _stream_of(await connection.request(f"STREAM.INFO.{stream.name}"))


async def _with_metadata(
    connection: Connection, stream: Stream, metadata: Mapping[str, str | None]
) -> Stream:
    changed = {**stream.metadata, **metadata}
    config = {**stream.config, "metadata": {name: each for name, each in changed.items() if each is not None}}
    return _stream_of(await connection.request(f"STREAM.UPDATE.{stream.name}", config))


async def _create(connection: Connection, name: str, purpose: Purpose, metadata: Mapping[str, str]) -> Stream:
    config = {
        "name": name,
        "description": f"usersync: {purpose.what}",
        "subjects": [f"{name}.>"],
        "retention": purpose.retention,
        "storage": "file",
        "discard": "new",
        "num_replicas": REPLICAS,
        "duplicate_window": SHORTEST_WINDOW_S * _NANOSECONDS,
        "max_age": 0,
        "max_bytes": -1,
        "max_msgs": -1,
        "max_consumers": -1,
        "metadata": dict(metadata),
    }
    try:
        return _stream_of(await connection.request(f"STREAM.CREATE.{name}", config))
    except StreamError as error:
        if _NOT_CLUSTERED not in str(error):
            raise
    return _stream_of(await connection.request(f"STREAM.CREATE.{name}", {**config, "num_replicas": 1}))


def _stream_of(answer: Mapping[str, Any]) -> Stream:
    config = answer["config"]
    return Stream(
        config["name"], answer["created"], config, answer["state"]["messages"], answer.get("ts", "")
    )


def risks(stream: Stream, purpose: Purpose) -> tuple[str, ...]:
    """The settings with which a stream loses events: a sentence for each, with a better setting."""
    return tuple(_risks(stream.config, purpose))


def _risks(config: Mapping[str, Any], purpose: Purpose) -> Iterator[str]:
    replicas = config.get("num_replicas", 1)
    if replicas < REPLICAS:
        copies = "one copy" if replicas == 1 else f"{replicas} copies"
        yield (
            f"It keeps {copies} of each message: if a disk is lost, events are lost. Use {REPLICAS} "
            f"replicas, on {REPLICAS} nodes."
        )
    if config.get("storage") == "memory":
        yield "It keeps messages in memory: if all nodes restart, events are lost. Use file storage."
    if config.get("persist_mode") == "async":
        yield (
            "It acknowledges messages before they are on disk (persist_mode async): a crash loses events. "
            "Use persist_mode default."
        )
    if config.get("no_ack"):
        yield "It acknowledges no message (no_ack): usersync cannot know which are stored. Unset no_ack."
    yield from _removals(config, purpose)
    window = (config.get("duplicate_window") or 0) / _NANOSECONDS
    if window < SHORTEST_WINDOW_S:
        yield (
            f"Its duplicate window is {window:g} s: after an outage, it can store messages twice. "
            f"Use a duplicate window of {SHORTEST_WINDOW_S} s or more."
        )


def _removals(config: Mapping[str, Any], purpose: Purpose) -> Iterator[str]:
    limits = [
        name for name in ("max_msgs", "max_bytes", "max_msgs_per_subject") if (config.get(name) or 0) > 0
    ]
    if limits and config.get("discard", "old") == "old":
        yield (
            f"When it is full ({', '.join(limits)}), it deletes the oldest messages (discard old), read or "
            "unread. Use discard new: usersync then keeps new events until there is space."
        )
    if config.get("retention") == "interest":
        yield (
            "It keeps messages only for existing consumers (retention interest): messages before the first "
            f"consumer are lost. Use retention {purpose.retention}."
        )
    if age := (config.get("max_age") or 0) / _NANOSECONDS:
        unread = (
            "even if no worker has stored them"
            if purpose.is_ingested
            else "even if no consumer has read them"
        )
        yield f"It deletes messages after {_duration(age)} (max_age), {unread}."
    size = config.get("max_msg_size") or 0
    if purpose.is_ingested and 0 < size < ENVELOPE_BYTES:
        yield (
            f"It rejects messages larger than {size:,} bytes (max_msg_size): the application quarantines "
            f"such an event in its spool. Use a max_msg_size of {ENVELOPE_BYTES:,} or more."
        )


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"
