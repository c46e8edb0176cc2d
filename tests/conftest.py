"""The suite's fixtures: see fix_servers.py for the servers, fix_database.py for what is on
them, fix_project.py for usersync installed there, fix_catalog.py for comparing all of it."""

pytest_plugins = ["fix_servers", "fix_database", "fix_project", "fix_recorder", "fix_catalog", "pytester"]
