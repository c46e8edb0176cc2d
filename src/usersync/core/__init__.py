"""Keeping the rows of the users table in sync, and what is installed in a database."""
