"""The suite's fixtures: see fix_servers.py for the servers, fix_database.py for what is on
them, fix_project.py for usersync installed there, fix_api.py for the Data API before it, fix_catalog.py for
comparing all of it."""

pytest_plugins = [
    "fix_servers", "fix_database", "fix_project", "fix_api", "fix_recorder", "fix_pooler", "fix_catalog",
    "pytester",
]  # fmt: skip
