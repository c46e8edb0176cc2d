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
#: The position of the database that a worker has stored events in, likewise.
POSITION = "usersync-position"

REPLICAS = 3
#: Seconds in which a stream recognizes a message that is published again: the server's default.
SHORTEST_WINDOW_S = 120
#: An envelope is up to 1 MiB.
ENVELOPE_BYTES = 1 << 20

_NANOSECONDS = 1_000_000_000
_NOT_CLUSTERED = "10074"


@dataclass(frozen=True)
class Purpose:
    """What a stream is for."""

    #: In words, for messages.
    what: str
    retention: str
    #: Whether ``usersync worker`` takes the messages from the stream.
    is_ingested: bool


#: From applications to the database. A message is deleted when it is stored there.
INGEST = Purpose("events for the database", "workqueue", is_ingested=True)
#: From the database to other systems. The owner of the stream decides how long messages stay.
EVENTS = Purpose("events of subscriptions", "limits", is_ingested=False)


@dataclass(frozen=True)
class Stream:
    """A stream as its cluster describes it."""

    name: str
    #: When it was created. A stream that was deleted and created again has another time.
    created: str
    config: Mapping[str, Any]

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata of the stream."""
        return self.config.get("metadata") or {}

    @property
    def installation(self) -> str | None:
        """The id of the installation that it belongs to."""
        return self.metadata.get(INSTALLATION)

    @property
    def generation(self) -> str:
        """Eight hexadecimal digits. They change if the stream is created again, or the database moves."""
        known = f"{self.created} {self.metadata.get(POSITION, '')}"
        return hashlib.sha256(known.encode()).hexdigest()[:8].upper()


async def find(connection: Connection, subject: str) -> Stream:
    """The stream that takes a subject. Raises ``NoStreamError`` if there is none, and ``StreamError``."""
    names = (await connection.ask("STREAM.NAMES", {"subject": subject})).get("streams") or []
    if not names:
        raise NoStreamError(f"no stream takes the subject {subject}")
    if len(names) > 1:
        raise StreamError(f"several streams take the subject {subject}: {', '.join(sorted(names))}")
    return _described(await connection.ask(f"STREAM.INFO.{names[0]}"))


async def find_or_create(
    connection: Connection, name: str, purpose: Purpose, metadata: Mapping[str, str]
) -> Stream:
    """The stream of the subjects ``name.>``, which belongs to the installation that the metadata name.

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
    if found.installation != installation:
        raise StreamError(
            f"the stream {found.name} has the events of another installation ({found.installation}), and "
            f"this database is installation {installation}. Name another stream: add ?stream=NAME to the URL"
        )
    return found


async def note_position(connection: Connection, stream: Stream, position: str) -> Stream:
    """Write the position of the database into the metadata, so that applications see when it has moved.

    Raises ``StreamError``.
    """
    if stream.metadata.get(POSITION) == position:
        return stream
    newest = _described(await connection.ask(f"STREAM.INFO.{stream.name}"))
    return await _with_metadata(connection, newest, {POSITION: position})


async def _with_metadata(connection: Connection, stream: Stream, metadata: Mapping[str, str]) -> Stream:
    config = {**stream.config, "metadata": {**stream.metadata, **metadata}}
    return _described(await connection.ask(f"STREAM.UPDATE.{stream.name}", config))


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
        return _described(await connection.ask(f"STREAM.CREATE.{name}", config))
    except StreamError as error:
        if _NOT_CLUSTERED not in str(error):
            raise
    return _described(await connection.ask(f"STREAM.CREATE.{name}", {**config, "num_replicas": 1}))


def _described(answer: Mapping[str, Any]) -> Stream:
    config = answer["config"]
    return Stream(config["name"], answer["created"], config)


def risks(stream: Stream, purpose: Purpose) -> tuple[str, ...]:
    """In which ways a stream loses events, each in one or two sentences for the person who runs it."""
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
        yield "It acknowledges messages before they are on disk (persist mode async): a crash loses events."
    if config.get("no_ack"):
        yield "It acknowledges no message (no_ack), so usersync cannot know what it has stored."
    yield from _removals(config, purpose)
    window = (config.get("duplicate_window") or 0) / _NANOSECONDS
    if window < SHORTEST_WINDOW_S:
        yield (
            f"It recognizes a repeated message for {window:g} s only: after an outage, messages come twice. "
            f"Use a duplicate window of {SHORTEST_WINDOW_S} s or more."
        )


def _removals(config: Mapping[str, Any], purpose: Purpose) -> Iterator[str]:
    limits = [
        name for name in ("max_msgs", "max_bytes", "max_msgs_per_subject") if (config.get(name) or 0) > 0
    ]
    if limits and config.get("discard", "old") == "old":
        yield (
            f"When it is full ({', '.join(limits)}), it deletes the oldest messages (discard old), read or "
            "not. Use discard new: usersync keeps the events until there is room."
        )
    if config.get("retention") == "interest":
        yield (
            "It keeps messages only for consumers that exist (retention interest): what comes before the "
            f"first consumer is lost. Use retention {purpose.retention}."
        )
    if age := (config.get("max_age") or 0) / _NANOSECONDS:
        unread = "stored in the database or not" if purpose.is_ingested else "read or not"
        yield f"It deletes messages after {_duration(age)} (max_age), {unread}."
    size = config.get("max_msg_size") or 0
    if purpose.is_ingested and 0 < size < ENVELOPE_BYTES:
        yield (
            f"It takes messages of up to {size:,} bytes only, and an event may be larger: such events are "
            f"quarantined where they were recorded. Use a max_msg_size of {ENVELOPE_BYTES:,} or more."
        )


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:g} {unit}"
    return f"{seconds:g} s"
