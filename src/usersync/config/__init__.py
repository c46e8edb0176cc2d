"""The settings, and where they are read from."""
