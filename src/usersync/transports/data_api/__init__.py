"""The project's Data API: usersync's functions in ``public``, called over HTTPS with a secret key.

::

    keys.py      the kinds of API key, and which ones are usable
    api.py       DataApi: a checked URL and key
    exchange.py  requests, retries and time limits; no input or output
    answers.py   parses replies
    http.py      sends and receives, with httpx
    admin.py     the auth server's list of users

An operation (``usersync.transports.steps``) that does nothing but call functions runs here as it does over a
connection.
"""

from usersync.transports.data_api.api import DataApi

__all__ = ["DataApi"]
