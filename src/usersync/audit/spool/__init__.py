"""Where accepted events wait until the database has them: files of SQLite, or memory."""
