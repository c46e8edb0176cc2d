"""How statements run: what an operation yields, and what drives it over a connection."""
