"""Webhooks: sends events as signed HTTP requests, in the form of Standard Webhooks.

``endpoint`` says which URLs and addresses are allowed, ``request`` builds and signs a request, ``answers``
says what an answer means, and ``delivery`` sends. ``events.secret_box`` encrypts the secrets.
"""
