"""GoTrue's error answers."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator

UNEXPECTED = "Unexpected failure, please check server logs for more information"
"""The answer to an error that the server's code has no words for, such as a failing COMMIT."""


class GoTrueError(Exception):
    """The HTTP answer of the auth server to a request that failed.

    An error of the database is the ``__cause__``; the real server does not send it.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message

    @property
    def sqlstate(self) -> str | None:
        """The SQLSTATE of the database error behind it, if there is one."""
        cause = self.__cause__
        return cause.sqlstate if isinstance(cause, psycopg.Error) else None


@contextmanager
def answering(message: str) -> Iterator[None]:
    """Turn a database error inside the block into the internal error that GoTrue makes of it.

    Source: apierrors.NewInternalServerError, HTTP 500 with the code ``unexpected_failure``.
    """
    try:
        yield
    except psycopg.Error as error:
        raise GoTrueError(500, "unexpected_failure", message) from error
