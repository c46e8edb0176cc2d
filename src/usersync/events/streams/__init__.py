"""Streams: publishes events to NATS JetStream, one in each message.

``subject`` makes the subject of an event, ``delivery`` publishes events, and ``subscription`` has the
settings that the database stores.
"""
