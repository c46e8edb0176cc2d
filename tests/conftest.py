"""The suite's fixtures: see fix_servers.py for the servers, fix_database.py for what is on them."""

pytest_plugins = ["fix_servers", "fix_database", "pytester"]
