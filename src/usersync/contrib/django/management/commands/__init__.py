"""Django finds the management command here."""
