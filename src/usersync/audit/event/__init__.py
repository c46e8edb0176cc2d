"""What an event holds: who did what to which entity, and with which values."""
