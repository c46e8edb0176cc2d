"""The SQL files that usersync installs and calls, and the renderer that fills in names."""
