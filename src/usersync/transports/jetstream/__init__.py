"""NATS JetStream: the connection, and the streams that usersync uses.

::

    address.py     StreamAddress: a checked nats:// URL
    connection.py  connects and publishes, with nats-py
    stream.py      creates a stream, and names settings with which a stream loses events
    backlog.py     counts the messages of a stream that no worker has acknowledged

There are two streams. Applications publish events to one, several in a message (an envelope), and
``usersync worker --ingest`` stores them in the database. Workers publish the events of subscriptions to the
other, one in a message.
"""

from usersync.transports.jetstream.address import StreamAddress

__all__ = ["StreamAddress"]
