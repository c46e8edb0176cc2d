"""An application whose migrations bring usersync."""
