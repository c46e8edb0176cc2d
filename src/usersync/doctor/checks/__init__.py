"""One file a check, D001 and up."""
