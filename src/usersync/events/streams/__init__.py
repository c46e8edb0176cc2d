"""Streams: publishes events to NATS JetStream, one in each message.

``subject`` says to which subject an event goes, ``delivery`` publishes it, and ``subscription`` has what the
database stores of a stream.
"""
