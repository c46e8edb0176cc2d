"""Sends accepted events to the database."""
