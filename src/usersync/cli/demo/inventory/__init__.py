"""The application of the demo: links to ``examples/inventory``, so that there is one text of it."""
