"""The operations, as generators that yield statements. No driver is imported here."""
