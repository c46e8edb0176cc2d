"""The suite's fixtures: see fix_servers.py for the servers, fix_database.py for what is on
them, fix_project.py for usersync installed there, fix_api.py for the Data API before it, fix_catalog.py for
comparing all of it."""

import signal

pytest_plugins = [
    "fix_collection", "fix_lacking", "fix_servers", "fix_database", "fix_project", "fix_api", "fix_recorder",
    "fix_language", "fix_nats", "fix_pooler", "fix_pair", "fix_catalog", "fix_browser", "fix_reached",
    "fix_examples", "pytester",
]  # fmt: skip

# A shell that starts the suite in the background has it ignore Ctrl-C, and so all that the suite starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
