"""The periodic process: handles the events of subscriptions, and does everything that is due."""
