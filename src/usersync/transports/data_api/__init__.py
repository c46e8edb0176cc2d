"""The project's Data API: the same functions in ``public``, called over HTTPS with a secret key.

::

    keys.py      which keys there are, and which one will do
    api.py       DataApi: a URL and a key, checked
    exchange.py  what is sent, sent again, and when it is given up; no input or output
    answers.py   what a reply means
    http.py      sends and receives, with httpx
    admin.py     the auth server's list of users

An operation (``usersync.transports.steps``) that does nothing but call functions runs here as it does over a
connection.
"""

from usersync.transports.data_api.api import DataApi

__all__ = ["DataApi"]
