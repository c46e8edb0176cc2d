"""``python -m usersync``."""

from usersync.cli import main

main()
