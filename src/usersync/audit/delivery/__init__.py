"""How accepted events get into the database."""
