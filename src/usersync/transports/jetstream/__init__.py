"""NATS JetStream: the connection, and the streams that usersync uses.

::

    address.py     StreamAddress: a checked nats:// URL
    connection.py  connects and publishes, with nats-py
    stream.py      creates a stream, and says in which ways it loses events

There are two streams. Applications publish envelopes of events to one, and ``usersync worker --ingest``
stores them in the database. To the other, a worker publishes the events of subscriptions, one in a message.
"""

from usersync.transports.jetstream.address import StreamAddress

__all__ = ["StreamAddress"]
