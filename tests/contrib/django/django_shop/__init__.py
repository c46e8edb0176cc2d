"""An application whose migrations install usersync."""
