"""Acting on events: subscriptions, and what handles their events."""
