"""Changing an application's database safely: what was tried on it before anything is installed."""
