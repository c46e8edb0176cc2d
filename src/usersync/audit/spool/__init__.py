"""Keeps accepted events until the database has stored them: SQLite files, or memory."""
