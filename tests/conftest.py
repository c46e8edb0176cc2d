"""Loads the shared fixtures (``fixtures_*.py``) and the hooks of pytest (``hooks_*.py``) for all tests.

``fixtures_servers.py`` starts PostgreSQL, ``fixtures_database.py`` makes a database for each test, and
``fixtures_project.py`` installs usersync in it.
"""

import signal

from hypothesis import HealthCheck, settings

pytest_plugins = [
    "hooks_collection", "hooks_skips", "hooks_dependencies",
    "fixtures_servers", "fixtures_database", "fixtures_project", "fixtures_api", "fixtures_recorder",
    "fixtures_german_server", "fixtures_nats", "fixtures_pooler", "fixtures_replication", "fixtures_catalog",
    "fixtures_browser", "fixtures_examples", "fixtures_spools", "pytester",
]  # fmt: skip

# A shell that starts the suite in the background makes it, and every process that it starts, ignore SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test depends on the speed of the machine. Most fixtures serve all examples of a test.
settings.register_profile("usersync", deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("usersync")
