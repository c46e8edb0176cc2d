"""An inventory."""
