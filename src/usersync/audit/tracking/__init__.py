"""Records every change of a table's rows by triggers."""
