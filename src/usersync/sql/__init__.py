"""The SQL that usersync installs and calls, one file each, and what fills the names in."""
